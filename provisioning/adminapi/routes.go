package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/coordinator"
	"github.com/towpath/towpath/provisioning/wire"
)

// Bodies that hold a list, in an object so that something can be added beside it.
type (
	siteList struct {
		Sites []Site `json:"sites" nullable:"false"`
	}
	tokenList struct {
		Tokens []Token `json:"tokens" nullable:"false"`
	}
	serviceList struct {
		Services []Service `json:"services" nullable:"false"`
	}
	grantList struct {
		Grants []Grant `json:"grants" nullable:"false"`
	}
	nodeList struct {
		Nodes []Node `json:"nodes" nullable:"false"`
	}
	eventList struct {
		Events []Event `json:"events" nullable:"false"`
	}
)

// Inputs with a path.
type (
	sitePath struct {
		Site string `path:"site" maxLength:"64" doc:"name or id"`
	}
	siteEndpointInput struct {
		Site string `path:"site" maxLength:"64" doc:"name or id"`
		Body SiteEndpoint
	}
	siteSpoolKeyInput struct {
		Site string `path:"site" maxLength:"64" doc:"name or id"`
		Body SiteSpoolKey
	}
	tokenPath struct {
		ID string `path:"id" maxLength:"64"`
	}
	servicePath struct {
		Service string `path:"service" maxLength:"64" doc:"name or id"`
	}
	serviceDICOMInput struct {
		Service string `path:"service" maxLength:"64" doc:"name or id"`
		Body    DICOMOptions
	}
	serviceHL7Input struct {
		Service string `path:"service" maxLength:"64" doc:"name or id"`
		Body    HL7Options
	}
	grantPath struct {
		Service string `path:"service" maxLength:"64" doc:"name or id"`
		Site    string `path:"site" maxLength:"64" doc:"name or id"`
	}
	grantInput struct {
		Service string `path:"service" maxLength:"64" doc:"name or id"`
		Site    string `path:"site" maxLength:"64" doc:"name or id"`
		Body    NewGrant
	}
	eventQuery struct {
		After uint64 `query:"after" doc:"only entries behind this one"`
		Limit int    `query:"limit" minimum:"0" maximum:"1000" doc:"at most so many; 0 means 1000"`
	}
)

func (s *server) network() {
	serve(s, s.operation("get-network", http.MethodGet, "/v1/network", "network", "The network in a few words", http.StatusOK),
		func(ctx context.Context, _ *none) (Network, error) {
			n, err := s.c.Network(ctx)
			if err != nil {
				return Network{}, err
			}
			p, err := s.c.Plan(ctx)
			return networkView(n, p), err
		})
	serveEmpty(s, s.operation("set-reach", http.MethodPut, "/v1/network/reach", "network",
		"Change how the coordinator is found from outside", http.StatusNoContent),
		func(ctx context.Context, in *body[Reach]) error {
			return s.c.SetReach(ctx, actorOf(ctx), coordinator.Reach{HubEndpoints: in.Body.HubEndpoints, URLs: in.Body.URLs})
		})
}

func (s *server) pairKeys() {
	serveEmpty(s, s.operation("set-pair-keys", http.MethodPut, "/v1/network/pair-keys", "network",
		"Say whether boxes agree on post-quantum preshared keys", http.StatusNoContent),
		func(ctx context.Context, in *body[PairKeys]) error {
			policy := wire.PairKeys(in.Body.Policy)
			if policy == pairKeysPreferred {
				policy = wire.PairKeysPreferred
			}
			return s.c.SetPairKeys(ctx, actorOf(ctx), policy)
		})
}

func (s *server) sites() {
	serve(s, s.operation("list-sites", http.MethodGet, "/v1/sites", "sites", "All sites by name", http.StatusOK),
		func(ctx context.Context, _ *none) (siteList, error) {
			l, err := s.c.Sites(ctx)
			return siteList{each(l, siteView)}, err
		})
	serve(s, s.operation("create-site", http.MethodPost, "/v1/sites", "sites", "Make a site and its range", http.StatusCreated),
		func(ctx context.Context, in *body[NewSite]) (Site, error) {
			n := coordinator.NewSite{
				Name: in.Body.Name, Kind: wire.SiteKind(in.Body.Kind), Title: in.Body.Title, Endpoint: in.Body.Endpoint, Hosts: in.Body.Hosts,
				Pool: in.Body.Pool,
			}
			var err error
			if n.Prefix, err = optionalPrefix(in.Body.Prefix); err != nil {
				return Site{}, err
			}
			if n.LAN, err = optionalPrefix(in.Body.LAN); err != nil {
				return Site{}, err
			}
			info, err := s.c.CreateSite(ctx, actorOf(ctx), n)
			return siteView(info), err
		})
	serveEmpty(s, s.operation("set-site-endpoint", http.MethodPut, "/v1/sites/{site}/endpoint", "sites",
		"Change where a site is reached from outside", http.StatusNoContent),
		func(ctx context.Context, in *siteEndpointInput) error {
			return s.c.SetSiteEndpoint(ctx, actorOf(ctx), in.Site, in.Body.Endpoint)
		})
	serveEmpty(s, s.operation("set-site-spool-key", http.MethodPut, "/v1/sites/{site}/spool-key", "sites",
		"Say where the key of a site's encrypted queues is kept", http.StatusNoContent),
		func(ctx context.Context, in *siteSpoolKeyInput) error {
			return s.c.SetSiteSpoolKey(ctx, actorOf(ctx), in.Site, wire.SpoolKey(in.Body.SpoolKey))
		})
	serveEmpty(s, s.operation("remove-site", http.MethodDelete, "/v1/sites/{site}", "sites",
		"Remove a site on which nothing depends", http.StatusNoContent),
		func(ctx context.Context, in *sitePath) error { return s.c.RemoveSite(ctx, actorOf(ctx), in.Site) })
}

func (s *server) tokens() {
	serve(s, s.operation("list-tokens", http.MethodGet, "/v1/tokens", "tokens", "All tokens, newest first, without their secrets", http.StatusOK),
		func(ctx context.Context, _ *none) (tokenList, error) {
			l, err := s.c.Tokens(ctx)
			return tokenList{each(l, tokenView)}, err
		})
	serve(s, s.operation("create-token", http.MethodPost, "/v1/tokens", "tokens", "Make a token for a box, or for several", http.StatusCreated),
		func(ctx context.Context, in *body[NewToken]) (CreatedToken, error) {
			return s.token(ctx, in.Body.TTLSeconds, coordinator.NewToken{
				Site: in.Body.Site, Kind: wire.NodeKind(in.Body.Kind), Address: in.Body.Address, Limit: in.Body.Limit, Approval: in.Body.Approval,
			})
		})
	serveEmpty(s, s.operation("revoke-token", http.MethodDelete, "/v1/tokens/{id}", "tokens", "Withdraw a token that is not used up", http.StatusNoContent),
		func(ctx context.Context, in *tokenPath) error {
			return s.c.RevokeToken(ctx, actorOf(ctx), provisioning.TokenID(in.ID))
		})
}

// token makes one that can be used for so many seconds.
func (s *server) token(ctx context.Context, ttl int64, n coordinator.NewToken) (CreatedToken, error) {
	if ttl < 0 || ttl > int64(coordinator.MaxTokenTTL/time.Second) {
		return CreatedToken{}, provisioning.Errorf(provisioning.Invalid, "a token cannot be good for %s", spell(ttl)).
			WithHint("choose between one minute and 90 days")
	}
	n.TTL = time.Duration(ttl) * time.Second
	t, text, err := s.c.CreateToken(ctx, actorOf(ctx), n)
	if err != nil {
		return CreatedToken{}, err
	}
	return CreatedToken{Token: tokenView(t), Text: text.Reveal()}, nil
}

func (s *server) services() {
	serve(s, s.operation("list-services", http.MethodGet, "/v1/services", "services", "All services by name", http.StatusOK),
		func(ctx context.Context, _ *none) (serviceList, error) {
			l, err := s.c.Services(ctx)
			return serviceList{each(l, serviceView)}, err
		})
	serve(s, s.operation("create-service", http.MethodPost, "/v1/services", "services", "Make a service that nobody may use yet", http.StatusCreated),
		func(ctx context.Context, in *body[NewService]) (Service, error) {
			v, err := s.c.CreateService(ctx, actorOf(ctx), coordinator.NewService{
				Site: in.Body.Site, Name: in.Body.Name, Protocol: wire.Protocol(in.Body.Protocol), AETitle: in.Body.AETitle,
				Receiver: in.Body.Receiver, HL7: in.Body.HL7.options(), Queue: in.Body.Queue.options(), DICOM: in.Body.DICOM.options(), Target: in.Body.Target, Mode: wire.Mode(in.Body.Mode),
				FixedAddress: in.Body.FixedAddress || in.Body.Address.IsValid(), Address: in.Body.Address,
			})
			return serviceView(v), err
		})
	serveEmpty(s, s.operation("set-service-dicom", http.MethodPut, "/v1/services/{service}/dicom", "services",
		"Change the options of a DICOM service", http.StatusNoContent),
		func(ctx context.Context, in *serviceDICOMInput) error {
			return s.c.SetServiceDICOM(ctx, actorOf(ctx), in.Service, in.Body.options())
		})
	serveEmpty(s, s.operation("set-service-hl7", http.MethodPut, "/v1/services/{service}/hl7", "services",
		"Change the options of an HL7 service", http.StatusNoContent),
		func(ctx context.Context, in *serviceHL7Input) error {
			return s.c.SetServiceHL7(ctx, actorOf(ctx), in.Service, in.Body.options())
		})
	serveEmpty(s, s.operation("remove-service", http.MethodDelete, "/v1/services/{service}", "services",
		"Remove a service that nobody may use any more", http.StatusNoContent),
		func(ctx context.Context, in *servicePath) error {
			return s.c.RemoveService(ctx, actorOf(ctx), in.Service)
		})
}

func (s *server) grants() {
	serve(s, s.operation("list-grants", http.MethodGet, "/v1/grants", "grants", "Who may use what", http.StatusOK),
		func(ctx context.Context, _ *none) (grantList, error) {
			l, err := s.c.Grants(ctx)
			return grantList{each(l, grantView)}, err
		})
	serve(s, s.operation("allow", http.MethodPut, "/v1/services/{service}/grants/{site}", "grants", "Let a site use a service", http.StatusCreated),
		func(ctx context.Context, in *grantInput) (Grant, error) {
			g, err := s.c.Allow(ctx, actorOf(ctx), in.Service, in.Site, in.Body.LANPort)
			return grantView(g), err
		})
	serve(s, s.operation("set-poll", http.MethodPut, "/v1/services/{service}/grants/{site}/poll", "grants",
		"Fetch new studies for a service from an archive of a site", http.StatusOK),
		func(ctx context.Context, in *pollInput) (Grant, error) {
			g, err := s.c.SetPoll(ctx, actorOf(ctx), in.Service, in.Site, in.Body.options())
			return grantView(g), err
		})
	serveEmpty(s, s.operation("end-poll", http.MethodDelete, "/v1/services/{service}/grants/{site}/poll", "grants", "Fetch no more studies", http.StatusNoContent),
		func(ctx context.Context, in *grantPath) error {
			_, err := s.c.SetPoll(ctx, actorOf(ctx), in.Service, in.Site, wire.PollOptions{})
			return err
		})
	serveEmpty(s, s.operation("disallow", http.MethodDelete, "/v1/services/{service}/grants/{site}", "grants", "Take a grant away", http.StatusNoContent),
		func(ctx context.Context, in *grantPath) error {
			return s.c.Disallow(ctx, actorOf(ctx), in.Service, in.Site)
		})
}

func (s *server) events() {
	serve(s, s.operation("list-events", http.MethodGet, "/v1/events", "events", "The audit trail, oldest first", http.StatusOK),
		func(ctx context.Context, in *eventQuery) (eventList, error) {
			l, err := s.c.Events(ctx, in.After, in.Limit)
			return eventList{each(l, eventView)}, err
		})
	serve(s, s.operation("verify-events", http.MethodGet, "/v1/events/verification", "events", "Walk the audit trail", http.StatusOK),
		func(ctx context.Context, _ *none) (Verification, error) {
			broken, err := s.c.VerifyEvents(ctx)
			return Verification{Broken: broken}, err
		})
}
