package adminapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/towpath/towpath/provisioning"
)

// internal is the code of errors that are nobody's fault outside of the coordinator.
const internal provisioning.Code = "internal"

// Problem is every error answer (RFC 9457).
type Problem struct {
	Title  string `json:"title" doc:"the HTTP status in words"`
	Status int    `json:"status" doc:"the HTTP status"`
	Detail string `json:"detail" doc:"what is wrong"`
	Code   string `json:"code" doc:"kind of error for programs" enum:"invalid,not_found,conflict,denied,expired,unavailable,internal"`
	Hint   string `json:"hint,omitempty" doc:"what to do about it"`
}

// Error makes a Problem an error.
func (p *Problem) Error() string { return p.Detail }

// GetStatus is asked for by huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is asked for by huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func newProblem(status int, code provisioning.Code, detail, hint string) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail, Code: string(code), Hint: hint}
}

// problemOf tells the operator what is theirs to know, and the log the rest.
func problemOf(ctx context.Context, log *slog.Logger, operation string, err error) error {
	e, ok := errors.AsType[*provisioning.Error](err)
	if !ok {
		log.ErrorContext(ctx, "operation failed", "operation", operation, "error", err)
		return newProblem(http.StatusInternalServerError, internal, "the coordinator has a problem of its own", "its log says what is wrong")
	}
	return newProblem(statusOf(e.Code), e.Code, e.Message, e.Hint)
}

func statusOf(c provisioning.Code) int {
	switch c {
	case provisioning.Invalid:
		return http.StatusUnprocessableEntity
	case provisioning.NotFound:
		return http.StatusNotFound
	case provisioning.Conflict:
		return http.StatusConflict
	case provisioning.Denied:
		return http.StatusForbidden
	case provisioning.Expired:
		return http.StatusGone
	case provisioning.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// reword turns the framework's own errors, about requests that do not fit the description, into a Problem.
func reword(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	details := []string{m.Detail}
	for _, e := range m.Errors {
		details = append(details, strings.TrimPrefix(e.Location+": ", ": ")+e.Message)
	}
	code := provisioning.Invalid
	if m.Status >= http.StatusInternalServerError {
		code = internal
	}
	return newProblem(m.Status, code, strings.Join(details, "; "), "the description of all requests is at /openapi.json"), nil
}

// problemResponse describes a Problem in the document.
func problemResponse(api huma.API) *huma.Response {
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	return &huma.Response{
		Description: "Error",
		Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: schema}},
	}
}
