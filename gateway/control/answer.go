package control

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Errors of Enroll that callers match, for the hint that fits.
var (
	// ErrUnreachable means that nobody answered at all.
	ErrUnreachable = errors.New("the coordinator cannot be reached")
	// ErrPortal means that the network the box is in wants somebody to log in first.
	ErrPortal = errors.New("a login page of this network answered, not the coordinator")
	// ErrBlocked means that a filter or a proxy answered with a page of its own.
	ErrBlocked = errors.New("a web page answered, not the coordinator: a filter or a proxy on the way blocks this address")
	// ErrNotCoordinator means that something else answered.
	ErrNotCoordinator = errors.New("something answered that is no coordinator: check the address, or a proxy on the way")
)

// ProxyAuthError means that a proxy wants to know who asks (407, RFC 9110 §15.5.8).
type ProxyAuthError struct {
	// Proxy is its address without credentials; empty if it is one that nobody named.
	Proxy string
	// Schemes are the ways to authenticate that it offers, such as Basic, Negotiate and NTLM.
	Schemes []string
	// Sent means that it was given credentials and refused them.
	Sent bool
}

// Basic reports whether user name and password would do.
func (e *ProxyAuthError) Basic() bool {
	return len(e.Schemes) == 0 || slices.ContainsFunc(e.Schemes, func(s string) bool { return strings.EqualFold(s, "Basic") })
}

func (e *ProxyAuthError) Error() string {
	switch {
	case !e.Basic():
		return "the proxy accepts only " + strings.Join(e.Schemes, " or ") + ", which a box cannot do"
	case e.Sent:
		return "the proxy refused the user name or the password"
	}
	return "the proxy wants a user name and a password"
}

// upgradeError means that the same host wants to be asked over TLS.
type upgradeError struct{ base string }

func (e *upgradeError) Error() string { return "it wants to be asked at " + e.base }

// judge says what an answer is that the coordinator cannot have given, nil if it may have. Of the answer's text, only what is safe to
// show is in the error.
func judge(resp *http.Response, body []byte, p Proxy) error {
	switch code := resp.StatusCode; {
	case code == http.StatusProxyAuthRequired:
		e := &ProxyAuthError{Schemes: schemes(resp.Header.Values("Proxy-Authenticate")), Sent: p.HasLogin()}
		if !p.IsZero() {
			e.Proxy = p.String()
		}
		return e
	case code == http.StatusNetworkAuthenticationRequired: // RFC 6585 §6 is for login pages alone
		return fmt.Errorf("%w%s", ErrPortal, title(body, p))
	case code/100 == 3:
		return redirected(resp)
	case code/100 == 2 && isPage(body):
		return fmt.Errorf("%w%s", ErrPortal, title(body, p))
	case code/100 == 2:
		return nil
	case isPage(body):
		return fmt.Errorf("%w: it answered %s%s", ErrBlocked, clean(resp.Status, p), title(body, p))
	}
	if text := clean(string(body), p); text != "" {
		return fmt.Errorf("it answered %s: %s", clean(resp.Status, p), text)
	}
	return fmt.Errorf("it answered %s", clean(resp.Status, p))
}

// redirected tells a coordinator behind a TLS terminator, which sends to the same host and path, from a login page.
func redirected(resp *http.Response) error {
	to, err := resp.Location()
	if err != nil {
		return fmt.Errorf("%w: it redirects to nowhere", ErrPortal)
	}
	if req := resp.Request; req != nil && req.URL.Scheme == "http" && to.Scheme == "https" &&
		to.Hostname() == req.URL.Hostname() && to.Path == req.URL.Path {
		return &upgradeError{base: "https://" + to.Host}
	}
	return fmt.Errorf("%w: it redirects to %s", ErrPortal, clean(to.Host, Proxy{}))
}

// schemes lists the first word of each challenge, once. A comma separates challenges and parameters alike (RFC 9110 §11.6.1), but only a
// challenge has a word without "=" in front.
func schemes(values []string) []string {
	var out []string
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			word, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			if word = clean(word, Proxy{}); word != "" && !strings.ContainsAny(word, `="`) && !slices.Contains(out, word) {
				out = append(out, word)
			}
		}
	}
	return out
}

// isPage reports whether b is for a browser. Content types lie, so the bytes decide; no answer of a coordinator looks like this.
func isPage(b []byte) bool {
	kind := http.DetectContentType(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	return strings.HasPrefix(kind, "text/html") || strings.HasPrefix(kind, "text/xml")
}

var titleElement = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title`)

// title is the title of a page as people see it, in parentheses; empty if there is none.
func title(page []byte, p Proxy) string {
	m := titleElement.FindSubmatch(page)
	if m == nil {
		return ""
	}
	if t := clean(html.UnescapeString(string(m[1])), p); t != "" {
		return fmt.Sprintf(" (%q)", t)
	}
	return ""
}

// clean makes text of strangers fit for one line of a terminal, without the proxy's credentials.
func clean(s string, p Proxy) string {
	const most = 120
	s = p.redact(s)
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
