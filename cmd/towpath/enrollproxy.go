package main

import (
	"errors"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/net/http/httpproxy"

	"github.com/towpath/towpath/cmd/towpath/internal/ui"
	"github.com/towpath/towpath/gateway/control"
	"github.com/towpath/towpath/provisioning/wire"
)

func proxyFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "proxy", EnvVars: []string{"TOWPATH_PROXY"},
		Usage: "HTTP proxy on the way to the coordinator, as `URL`: http://[USER:PASSWORD@]HOST:PORT",
	}
}

// enrollWays are how the person, or the environment, lets us reach the coordinator.
func enrollWays(c *cli.Context) (control.Ways, error) {
	s := c.String("proxy")
	if s == "" {
		return control.Ways{Environment: httpproxy.FromEnvironment().ProxyFunc()}, nil
	}
	p, err := control.ParseProxy(s)
	if err != nil {
		return control.Ways{}, ui.Usagef("such as http://proxy.example:3128, or http://USER:PASSWORD@proxy.example:3128 with special characters of the password "+
			"written as %XX (%40 for @, %2F for /)", "--proxy: %w", err)
	}
	return control.Ways{Proxy: p}, nil
}

// explainEnroll says what to do about an enrolment that did not work. What the coordinator itself has refused says so by itself.
func explainEnroll(err error, tok wire.Token) error {
	addresses := strings.Join(tok.URLs, " or ")
	auth, isAuth := errors.AsType[*control.ProxyAuthError](err)
	switch {
	case errors.Is(err, wire.ErrIdentity):
		return &ui.Error{
			Err: err, Code: ui.ExitDenied,
			Hint: "the token is of another network, or somebody on the way pretends to be the coordinator; ask the operator for a new token",
		}
	case errors.Is(err, wire.ErrSealed):
		return &ui.Error{
			Err: err, Code: ui.ExitDenied,
			Hint: "something on the way changes what is sent, and learned nothing from it; try again over another line or without the proxy. The token is still good for this box",
		}
	case isAuth && !auth.Basic():
		return ui.Hint(err, "ask whoever runs the proxy to let this box reach %s without logging in, or for an account with user name and password (Basic)", addresses)
	case isAuth && auth.Sent:
		return ui.Hint(err, "check user name and password; special characters are written as %%XX (%%40 for @, %%2F for /)")
	case isAuth:
		proxy := strings.TrimPrefix(auth.Proxy, "http://")
		if proxy == "" {
			proxy = "HOST:PORT"
		}
		return ui.Hint(err, "give it with TOWPATH_PROXY=http://USER:PASSWORD@%s or --proxy", proxy)
	case errors.Is(err, control.ErrPortal):
		return ui.Hint(err, "log in with a browser on this network first, or ask whoever runs it to let this box out to %s", addresses)
	case errors.Is(err, control.ErrBlocked), errors.Is(err, control.ErrNotCoordinator):
		return ui.Hint(err, "ask whoever runs this network to let this box reach %s; if a proxy is needed, name it with --proxy", addresses)
	case errors.Is(err, control.ErrUnreachable):
		return ui.Hint(err, "check this machine's network, and that the coordinator runs at %s; if a proxy is needed, name it with --proxy", addresses)
	}
	if _, ok := errors.AsType[*control.EnrollError](err); ok {
		return ui.Hint(err, "try again in a minute; if it stays so, show this to whoever runs the coordinator at %s", addresses)
	}
	return err
}
