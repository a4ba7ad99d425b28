package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/nodeapi"
	"github.com/towpath/towpath/tunnel/carrier"
)

// publicDoor is what boxes reach without a tunnel.
func publicDoor(co *coordinator.Coordinator, carried *carrier.Server) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", nodeapi.Public(co))
	mux.Handle("GET "+carrier.Path, carried)
	return mux
}

// servePublic serves strangers: of their connections there are at most maxPublicConns. What is upgraded does not count any more: the carrier has
// limits of its own. It is in TLS unless cfg is nil.
func servePublic(ctx context.Context, l net.Listener, h http.Handler, cfg *tls.Config) error {
	var limited net.Listener = &turnstile{Listener: l, places: make(chan struct{}, maxPublicConns), closed: make(chan struct{})}
	if cfg != nil {
		limited = tls.NewListener(limited, cfg)
	}
	return serve(ctx, limited, &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, ConnState: func(c net.Conn, s http.ConnState) {
		if s != http.StateHijacked {
			return
		}
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		if p, ok := c.(*passing); ok {
			p.free()
		}
	}})
}

// turnstile accepts as long as there are places.
type turnstile struct {
	net.Listener
	places chan struct{}
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (t *turnstile) Accept() (net.Conn, error) {
	select {
	case t.places <- struct{}{}:
	case <-t.closed:
		return nil, net.ErrClosed
	}
	c, err := t.Listener.Accept()
	if err != nil {
		<-t.places
		return nil, err //nolint:wrapcheck // net/http looks at it
	}
	return &passing{Conn: c, free: sync.OnceFunc(func() { <-t.places })}, nil
}

// Close implements net.Listener.
func (t *turnstile) Close() error {
	t.once.Do(func() { close(t.closed) })
	return t.Listener.Close()
}

// passing is a connection with a place.
type passing struct {
	net.Conn
	free func()
}

// NetConn is the connection itself.
func (p *passing) NetConn() net.Conn { return p.Conn }

// Close implements net.Conn.
func (p *passing) Close() error {
	p.free()
	return p.Conn.Close()
}

// listenTLS opens the port in TLS; nil if there is none.
func listenTLS(ctx context.Context, cfg coordinatorConfig) (net.Listener, error) {
	if cfg.ListenTLS == "" {
		return nil, nil //nolint:nilnil // none is no error
	}
	return listenTCP(ctx, cfg.ListenTLS, "--https-port of \"towpath coordinator init\"")
}

// publicTLS makes a certificate of its own at each start. Nobody checks it: what goes over this port is sealed for keys that boxes know by
// other means, and TLS is only what lets it pass.
func publicTLS() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key for TLS: %w", err)
	}
	now := time.Now()
	is := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "towpath"}, DNSNames: []string{"towpath.invalid"},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, is, is, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate for TLS: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}, nil
}

// portOf is the port of a listening address.
func portOf(address string) (uint16, error) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, fmt.Errorf("read the port of %s: %w", address, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("read the port of %s: %w", address, err)
	}
	return uint16(n), nil
}
