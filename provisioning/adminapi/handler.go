package adminapi

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/towpath/towpath/provisioning/coordinator"
)

const (
	// apiVersion is that of the description, not of the program.
	apiVersion = "1.0.0"
	// maxBody bounds every request, in bytes.
	maxBody = 64 << 10
)

// Handler serves the API. actor names for the audit trail who is calling; nil means "operator" for all. log may be nil.
func Handler(c *coordinator.Coordinator, actor func(*http.Request) string, log *slog.Logger) http.Handler {
	if actor == nil {
		actor = func(*http.Request) string { return "operator" }
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Towpath coordinator", apiVersion)
	config.DocsPath, config.SchemasPath = "", ""
	config.CreateHooks = nil // no links to schemas inside of every answer
	config.RejectUnknownQueryParameters = true
	config.Transformers = []huma.Transformer{reword}
	api := humago.New(mux, config)
	s := &server{c: c, log: log.With("subsystem", "adminapi"), api: api, problem: problemResponse(api)}
	s.network()
	s.pairKeys()
	s.plan()
	s.planChanges()
	s.mappings()
	s.sites()
	s.lanTLS()
	s.tokens()
	s.services()
	s.devices()
	s.grants()
	s.nodes()
	s.nodePlaces()
	s.members()
	s.peers()
	s.events()
	// The framework describes its own error type beside ours, which no answer has, see reword.
	schemas := api.OpenAPI().Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	named := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), actorKey{}, actor(r))))
	})
	return http.NewCrossOriginProtection().Handler(named)
}

type actorKey struct{}

func actorOf(ctx context.Context) string {
	name, _ := ctx.Value(actorKey{}).(string)
	return name
}

type server struct {
	c       *coordinator.Coordinator
	log     *slog.Logger
	api     huma.API
	problem *huma.Response
}

// answer is a response with a body.
type answer[T any] struct {
	Body T
}

// Inputs that several operations share.
type (
	none        struct{}
	body[T any] struct {
		Body T
	}
)

// operation describes one route. Its error answers are all a Problem.
func (s *server) operation(id, method, path, tag, summary string, status int) huma.Operation {
	return huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{tag},
		DefaultStatus: status, MaxBodyBytes: maxBody,
		Responses: map[string]*huma.Response{"default": s.problem},
	}
}

// serve registers an operation that answers with a body.
func serve[I, O any](s *server, op huma.Operation, fn func(context.Context, *I) (O, error)) {
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*answer[O], error) {
		out, err := fn(ctx, in)
		if err != nil {
			return nil, problemOf(ctx, s.log, op.OperationID, err)
		}
		return &answer[O]{Body: out}, nil
	})
}

// serveEmpty registers an operation that answers with nothing.
func serveEmpty[I any](s *server, op huma.Operation, fn func(context.Context, *I) error) {
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*struct{}, error) {
		if err := fn(ctx, in); err != nil {
			return nil, problemOf(ctx, s.log, op.OperationID, err)
		}
		return nil, nil
	})
}
