package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/towpath/towpath/gateway/sitecert"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/lantls"
	"github.com/towpath/towpath/proxy/spool"
)

// Paths of the LAN's protection.
const (
	pathLAN     = "/v1/lan"
	pathCerts   = "/v1/certs"
	pathRevoked = "/v1/certs/revoked"
	pathBackup  = "/v1/certs/backup"
	pathRestore = "/v1/certs/restore"
)

// LAN is how the LAN is protected, who speaks what, and what went wrong.
type LAN struct {
	// Policy is the plan's; nil for cleartext only.
	Policy  *wire.LANTLS    `json:"policy,omitempty"`
	Devices []lantls.Device `json:"devices"`
	Faults  []lantls.Fault  `json:"faults"`
	// Authority is the certificate of the Site's own authority in PEM; empty before there is one.
	Authority string            `json:"authority,omitempty"`
	Issued    []sitecert.Issued `json:"issued"`
}

// Certificates is a Gateway that has an authority. Errors that are sitecert.ErrRequest are told to who asked.
type Certificates interface {
	LAN() LAN
	Issue(sitecert.Request) (sitecert.Bundle, error)
	// Revoke returns false for a serial number that nothing was issued with.
	Revoke(serial string) (bool, error)
	BackupAuthority(passphrase string) ([]byte, error)
	RestoreAuthority(backup []byte, passphrase string) error
}

type (
	revocation struct {
		Serial string `json:"serial"`
	}
	backup struct {
		Passphrase string `json:"passphrase"`
		Backup     []byte `json:"backup,omitempty"`
	}
)

func handleCertificates(mux *http.ServeMux, c Certificates) {
	mux.HandleFunc("GET "+pathLAN, func(w http.ResponseWriter, _ *http.Request) { answer(w, c.LAN()) })
	mux.HandleFunc("POST "+pathCerts, taking(func(w http.ResponseWriter, r sitecert.Request) {
		b, err := c.Issue(r)
		answerTo(w, b, err)
	}))
	mux.HandleFunc("POST "+pathRevoked, taking(func(w http.ResponseWriter, r revocation) {
		known, err := c.Revoke(r.Serial)
		if err == nil && !known {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answerTo(w, struct{}{}, err)
	}))
	mux.HandleFunc("POST "+pathBackup, taking(func(w http.ResponseWriter, r backup) {
		b, err := c.BackupAuthority(r.Passphrase)
		answerTo(w, backup{Backup: b}, err)
	}))
	mux.HandleFunc("POST "+pathRestore, taking(func(w http.ResponseWriter, r backup) {
		answerTo(w, struct{}{}, c.RestoreAuthority(r.Backup, r.Passphrase))
	}))
}

// taking decodes a bounded body.
func taking[T any](serve func(http.ResponseWriter, T)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var v T
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&v); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			answer(w, "the request cannot be read")
			return
		}
		serve(w, v)
	}
}

func answerTo[T any](w http.ResponseWriter, v T, err error) {
	switch {
	case errors.Is(err, sitecert.ErrRequest):
		w.WriteHeader(http.StatusUnprocessableEntity)
		answer(w, err.Error())
	case err != nil:
		w.WriteHeader(http.StatusInternalServerError)
		answer(w, err.Error())
	default:
		answer(w, v)
	}
}

// ErrNoCertificate means that nothing was issued with a serial number.
var ErrNoCertificate = errors.New("no certificate of this box has that serial number")

// LAN asks how the LAN is protected.
func (c *Client) LAN(ctx context.Context) (LAN, error) {
	var l LAN
	err := c.call(ctx, http.MethodGet, pathLAN, nil, &l)
	return l, err
}

// Issue asks for a certificate of a device. The key in the answer is nowhere else.
func (c *Client) Issue(ctx context.Context, r sitecert.Request) (sitecert.Bundle, error) {
	var b sitecert.Bundle
	err := c.call(ctx, http.MethodPost, pathCerts, r, &b)
	return b, err
}

// Revoke ends a certificate; ErrNoCertificate if there is none.
func (c *Client) Revoke(ctx context.Context, serial string) error {
	var none struct{}
	err := c.call(ctx, http.MethodPost, pathRevoked, revocation{serial}, &none)
	if errors.Is(err, spool.ErrUnknown) {
		return ErrNoCertificate
	}
	return err
}

// BackupAuthority asks for the authority and its key under a passphrase.
func (c *Client) BackupAuthority(ctx context.Context, passphrase string) ([]byte, error) {
	var b backup
	err := c.call(ctx, http.MethodPost, pathBackup, backup{Passphrase: passphrase}, &b)
	return b.Backup, err
}

// RestoreAuthority makes the authority of a backup the box's.
func (c *Client) RestoreAuthority(ctx context.Context, file []byte, passphrase string) error {
	var none struct{}
	return c.call(ctx, http.MethodPost, pathRestore, backup{passphrase, file}, &none)
}
