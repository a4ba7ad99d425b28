package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// sortedHL7 puts the message types of options in their order.
func sortedHL7(o wire.HL7Options) wire.HL7Options {
	types := o.TypeList()
	slices.Sort(types)
	o.Types = strings.Join(types, ",")
	return o
}

// SetServiceHL7 changes the options of an HL7 Service. It returns provisioning.Conflict if a Site that may use it could not tell it from another
// Service at the same port any more.
func (c *Coordinator) SetServiceHL7(ctx context.Context, actor, service string, o wire.HL7Options) error {
	return c.change(ctx, actor, "service.options", func(tx store.Tx) (string, string, error) {
		v, err := serviceNamed(tx, service)
		if err != nil {
			return "", "", err
		}
		if v.Protocol != wire.HL7 {
			return "", "", provisioning.Errorf(provisioning.Invalid, "service %s speaks no HL7", v.Name).WithHint("these options are for HL7 services")
		}
		v.HL7 = sortedHL7(o)
		if err := v.Validate(); err != nil {
			return "", "", err
		}
		if err := stillApart(tx, v); err != nil {
			return "", "", err
		}
		if err := tx.Services().Configure(v); err != nil {
			return "", "", fmt.Errorf("store the options: %w", err)
		}
		return v.Name, fmt.Sprintf("%+v", v.HL7), nil
	})
}

// stillApart looks at all doors of a Service whose options change.
func stillApart(tx store.Tx, v provisioning.Service) error {
	all, err := tx.Grants().List()
	if err != nil {
		return fmt.Errorf("read the grants: %w", err)
	}
	for _, g := range all {
		if g.Service != v.ID {
			continue
		}
		user, err := tx.Sites().ByID(g.Site)
		if err != nil {
			return fmt.Errorf("read a site: %w", err)
		}
		grants, err := tx.Grants().Of(user.ID)
		if err != nil {
			return fmt.Errorf("read the grants: %w", err)
		}
		if err := tellsApart(tx, v, user, g.LANPort, grants); err != nil {
			return err
		}
	}
	return nil
}
