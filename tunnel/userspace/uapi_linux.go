package userspace

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.zx2c4.com/wireguard/ipc"

	"github.com/towpath/towpath/tunnel/internal/wgo"
)

// uapiServer answers wg(8) on the interface's socket.
type uapiServer struct {
	ln *net.UnixListener
	wg *wgo.Device

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	done   sync.WaitGroup
}

// serveUAPI opens the socket where wg(8) looks for it and serves it until close.
func serveUAPI(name string, wg *wgo.Device) (*uapiServer, error) {
	f, err := ipc.UAPIOpen(name)
	if err != nil {
		return nil, fmt.Errorf("open the configuration socket: %w", err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listen on the configuration socket: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("the configuration socket is not a Unix socket"), l.Close())
	}
	u.SetUnlinkOnClose(true)
	s := &uapiServer{ln: u, wg: wg, conns: map[net.Conn]struct{}{}}
	s.done.Go(s.accept)
	return s, nil
}

func (s *uapiServer) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = c.Close()
			return
		}
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		s.done.Go(func() {
			s.wg.Serve(c)
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

func (s *uapiServer) close() error {
	err := s.ln.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close() // ends its server
	}
	s.mu.Unlock()
	s.done.Wait()
	return err
}
