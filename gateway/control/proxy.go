package control

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// ErrProxyAddress means that a text names no proxy that this build can use. It never contains the text.
var ErrProxyAddress = errors.New("this is not the address of an HTTP proxy")

// Proxy is an HTTP proxy between a box and its coordinator, perhaps with credentials (Basic, RFC 7617). It prints without them
// everywhere. The zero Proxy is none.
type Proxy struct {
	host string // name or IP address, and port
	// A function, because fmt prints the unexported fields of whatever holds a Proxy without asking for its methods. Nil without credentials.
	login func() (user, password string)
}

// ParseProxy reads "http://[USER:PASSWORD@]HOST[:PORT]"; "http://" may be left out, and the port is 80 then. Errors never contain a
// part of s.
func ParseProxy(s string) (Proxy, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return Proxy{}, fmt.Errorf("%w: it cannot be read", ErrProxyAddress) // url's own error quotes the text
	}
	switch u.Scheme {
	case "http":
	case "https", "socks4", "socks4a", "socks5", "socks5h":
		return Proxy{}, fmt.Errorf("%w: it is one of kind %s, and only http:// is supported", ErrProxyAddress, u.Scheme)
	default:
		return Proxy{}, fmt.Errorf("%w: it must start with http://", ErrProxyAddress)
	}
	if !plainHost(u.Hostname()) || strings.HasSuffix(u.Host, ":") || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return Proxy{}, fmt.Errorf("%w: it must be a name or an IP address and perhaps a port, nothing else", ErrProxyAddress)
	}
	port := "80"
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return Proxy{}, fmt.Errorf("%w: it has an impossible port", ErrProxyAddress)
		}
		port = p
	}
	p := Proxy{host: net.JoinHostPort(u.Hostname(), port)}
	if u.User == nil {
		return p, nil
	}
	user := u.User.Username()
	password, _ := u.User.Password()
	// RFC 7617 §2: no colon in the user-id, no control characters in either.
	if strings.ContainsRune(user, ':') || strings.ContainsFunc(user+password, unicode.IsControl) {
		return Proxy{}, fmt.Errorf("%w: its user name or password has a character that HTTP cannot carry", ErrProxyAddress)
	}
	p.login = func() (string, string) { return user, password }
	return p, nil
}

// plainHost reports whether s is made of what names and IP addresses are made of, so that it can be shown anywhere.
func plainHost(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && r != ':' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// IsZero reports whether p is none.
func (p Proxy) IsZero() bool { return p.host == "" }

// HasLogin reports whether p comes with credentials.
func (p Proxy) HasLogin() bool { return p.login != nil }

// String is the address without credentials.
func (p Proxy) String() string {
	if p.IsZero() {
		return "no proxy"
	}
	return "http://" + p.host
}

// Format hides the credentials from every verb of fmt.
func (p Proxy) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// LogValue hides the credentials from slog.
func (p Proxy) LogValue() slog.Value { return slog.StringValue(p.String()) }

// authorization is the value of Proxy-Authorization, empty without credentials.
func (p Proxy) authorization() string {
	if p.login == nil {
		return ""
	}
	user, password := p.login()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// redact takes the credentials out of what a proxy says: some repeat the whole request on their error pages.
func (p Proxy) redact(s string) string {
	if p.login == nil {
		return s
	}
	_, password := p.login()
	for _, secret := range []string{strings.TrimPrefix(p.authorization(), "Basic "), url.UserPassword("", password).String()[1:], password} {
		if secret != "" {
			s = strings.ReplaceAll(s, secret, "(secret)")
		}
	}
	return s
}
