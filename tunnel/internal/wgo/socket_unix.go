//go:build unix

package wgo

import (
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.zx2c4.com/wireguard/ipc"
)

// Socket answers wg(8) where it looks for a device of that name: /var/run/wireguard/NAME.sock.
type Socket struct {
	ln *net.UnixListener
	wg *Device

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	done   sync.WaitGroup
}

// Listen opens the socket of the device and serves it until Close. It needs the right to write to that folder, and so root on most machines.
func (d *Device) Listen(name string) (*Socket, error) {
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
	s := &Socket{ln: u, wg: d, conns: map[net.Conn]struct{}{}}
	s.done.Go(s.accept)
	return s, nil
}

func (s *Socket) accept() {
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

// Close removes the socket and ends all its connections.
func (s *Socket) Close() error {
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
