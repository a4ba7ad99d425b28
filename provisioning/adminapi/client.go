package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/towpath/towpath/provisioning"
)

const (
	// callTimeout bounds one operation, importTimeout one that carries a whole plan.
	callTimeout   = 30 * time.Second
	importTimeout = 10 * time.Minute
	// maxAnswer bounds what a Client reads, in bytes: some ten thousand nodes.
	maxAnswer = 64 << 20
)

// Client calls the API, one method for each operation. Refusals are *provisioning.Error with the coordinator's own words.
type Client struct {
	base  string
	where string
	http  *http.Client
}

// NewSocketClient calls over the socket file at path.
func NewSocketClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Client{base: "http://coordinator", where: path, http: &http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// NewClient calls the API under a base URL such as "http://10.201.0.1:8081".
func NewClient(base string, c *http.Client) *Client {
	base = strings.TrimSuffix(base, "/")
	return &Client{base: base, where: base, http: c}
}

// Network returns the network in a few words.
func (c *Client) Network(ctx context.Context) (Network, error) {
	return call[Network](ctx, c, http.MethodGet, "/v1/network", nil)
}

// SetReach changes how the coordinator is found from outside.
func (c *Client) SetReach(ctx context.Context, r Reach) error {
	return c.send(ctx, http.MethodPut, "/v1/network/reach", r)
}

// SetPairKeys says whether boxes agree on post-quantum preshared keys: "preferred", "required" or "off".
func (c *Client) SetPairKeys(ctx context.Context, policy string) error {
	return c.send(ctx, http.MethodPut, "/v1/network/pair-keys", PairKeys{policy})
}

// Sites returns all by name.
func (c *Client) Sites(ctx context.Context) ([]Site, error) {
	l, err := call[siteList](ctx, c, http.MethodGet, "/v1/sites", nil)
	return l.Sites, err
}

// CreateSite makes a Site and its range.
func (c *Client) CreateSite(ctx context.Context, n NewSite) (Site, error) {
	return call[Site](ctx, c, http.MethodPost, "/v1/sites", n)
}

// SetSiteEndpoint changes where a Site is reached from outside.
func (c *Client) SetSiteEndpoint(ctx context.Context, site, endpoint string) error {
	return c.send(ctx, http.MethodPut, path("sites", site, "endpoint"), SiteEndpoint{Endpoint: endpoint})
}

// SetSiteSpoolKey says where the key of a Site's encrypted queues is kept.
func (c *Client) SetSiteSpoolKey(ctx context.Context, site, where string) error {
	return c.send(ctx, http.MethodPut, path("sites", site, "spool-key"), SiteSpoolKey{SpoolKey: where})
}

// RemoveSite removes a Site on which nothing depends.
func (c *Client) RemoveSite(ctx context.Context, site string) error {
	return c.send(ctx, http.MethodDelete, path("sites", site), nil)
}

// Tokens returns all, newest first, without their secrets.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	l, err := call[tokenList](ctx, c, http.MethodGet, "/v1/tokens", nil)
	return l.Tokens, err
}

// CreateToken makes a token for a box, or for several.
func (c *Client) CreateToken(ctx context.Context, n NewToken) (CreatedToken, error) {
	return call[CreatedToken](ctx, c, http.MethodPost, "/v1/tokens", n)
}

// RevokeToken withdraws a token that is not used up.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.send(ctx, http.MethodDelete, path("tokens", id), nil)
}

// Services returns all by name.
func (c *Client) Services(ctx context.Context) ([]Service, error) {
	l, err := call[serviceList](ctx, c, http.MethodGet, "/v1/services", nil)
	return l.Services, err
}

// CreateService makes a Service that nobody may use yet.
func (c *Client) CreateService(ctx context.Context, n NewService) (Service, error) {
	return call[Service](ctx, c, http.MethodPost, "/v1/services", n)
}

// SetServiceDICOM replaces the options of a DICOM Service.
func (c *Client) SetServiceDICOM(ctx context.Context, service string, o DICOMOptions) error {
	return c.send(ctx, http.MethodPut, path("services", service, "dicom"), o)
}

// SetServiceHL7 replaces the options of an HL7 Service.
func (c *Client) SetServiceHL7(ctx context.Context, service string, o HL7Options) error {
	return c.send(ctx, http.MethodPut, path("services", service, "hl7"), o)
}

// RemoveService removes a Service that nobody may use any more.
func (c *Client) RemoveService(ctx context.Context, service string) error {
	return c.send(ctx, http.MethodDelete, path("services", service), nil)
}

// Grants returns who may use what.
func (c *Client) Grants(ctx context.Context) ([]Grant, error) {
	l, err := call[grantList](ctx, c, http.MethodGet, "/v1/grants", nil)
	return l.Grants, err
}

// Allow lets a Site use a Service. A lanPort of 0 is the usual one of the protocol.
func (c *Client) Allow(ctx context.Context, service, site string, lanPort uint16) (Grant, error) {
	return call[Grant](ctx, c, http.MethodPut, path("services", service, "grants", site), NewGrant{LANPort: lanPort})
}

// SetPoll makes a Site's gateway fetch new studies for a Service from an archive of the Site.
func (c *Client) SetPoll(ctx context.Context, service, site string, p Poll) (Grant, error) {
	return call[Grant](ctx, c, http.MethodPut, path("services", service, "grants", site, "poll"), p)
}

// EndPoll ends that.
func (c *Client) EndPoll(ctx context.Context, service, site string) error {
	return c.send(ctx, http.MethodDelete, path("services", service, "grants", site, "poll"), nil)
}

// Disallow takes a grant away.
func (c *Client) Disallow(ctx context.Context, service, site string) error {
	return c.send(ctx, http.MethodDelete, path("services", service, "grants", site), nil)
}

// Nodes returns all by site and address.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	l, err := call[nodeList](ctx, c, http.MethodGet, "/v1/nodes", nil)
	return l.Nodes, err
}

// RemoveNode takes a Node out of the network.
func (c *Client) RemoveNode(ctx context.Context, id string) error {
	return c.send(ctx, http.MethodDelete, path("nodes", id), nil)
}

// Events returns up to limit entries of the audit trail behind one, oldest first. A limit of 0 means 1000.
func (c *Client) Events(ctx context.Context, after uint64, limit int) ([]Event, error) {
	l, err := call[eventList](ctx, c, http.MethodGet, fmt.Sprintf("/v1/events?after=%d&limit=%d", after, limit), nil)
	return l.Events, err
}

// VerifyEvents walks the audit trail.
func (c *Client) VerifyEvents(ctx context.Context) (Verification, error) {
	return call[Verification](ctx, c, http.MethodGet, "/v1/events/verification", nil)
}

// seconds rounds to whole ones.
func seconds(d time.Duration) int64 { return int64(d.Round(time.Second) / time.Second) }

// path joins escaped segments.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

func call[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var out T
	answer, err := c.do(ctx, method, path, body)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("decode the coordinator's answer to %s %s: %w", method, path, err)
	}
	return out, nil
}

func (c *Client) send(ctx context.Context, method, path string, body any) error {
	_, err := c.do(ctx, method, path, body)
	return err
}

func (c *Client) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	timeout := callTimeout
	if _, large := body.(NewImport); large {
		timeout = importTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", method, path, err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, fmt.Errorf("make the request %s %s: %w", method, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the coordinator's answer: %w", err)
	}
	if len(answer) > maxAnswer {
		return nil, fmt.Errorf("the coordinator's answer is longer than %d bytes", maxAnswer)
	}
	if res.StatusCode >= 300 {
		return nil, refused(res.StatusCode, answer)
	}
	return answer, nil
}

// unreachable says what an operator can do about a coordinator that does not answer.
func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, fs.ErrPermission):
		return provisioning.Errorf(provisioning.Denied, "you may not open %s", c.where).
			WithHint("run this as the user of the coordinator, or as root")
	}
	return provisioning.Errorf(provisioning.Unavailable, "the coordinator does not answer at %s: %s", c.where, err).
		WithHint("see whether it is running, and whether this is the right place")
}

func refused(status int, answer []byte) error {
	var p Problem
	if err := json.Unmarshal(answer, &p); err != nil || p.Code == "" {
		return provisioning.Errorf(internal, "the answer has status %d and is not the coordinator's", status).
			WithHint("see whether this is the right address")
	}
	return &provisioning.Error{Code: provisioning.Code(p.Code), Message: p.Detail, Hint: p.Hint}
}
