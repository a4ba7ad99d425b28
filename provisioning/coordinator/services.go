package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/towpath/towpath/provisioning"
	"github.com/towpath/towpath/provisioning/store"
	"github.com/towpath/towpath/provisioning/wire"
)

// NewService describes a Service to be made.
type NewService struct {
	// Site is the name or id of the Site that offers it.
	Site string
	// Name is unique in the network: a lower-case slug.
	Name     string
	Protocol wire.Protocol
	// AETitle is needed for DICOM, Receiver optional for HL7.
	AETitle, Receiver string
	// HL7 are the options of an HL7 Service; its types may stand in any order.
	HL7 wire.HL7Options
	// DICOM are the options of a DICOM Service; its lists may stand in any order.
	DICOM wire.DICOMOptions
	// Queue bounds the queues of a queued Service.
	Queue wire.QueueOptions
	// Target is host:port on the Site's LAN, or wire.FolderTarget and the name of a folder on its gateway.
	Target string
	// Mode is wire.Queued unless given.
	Mode wire.Mode
	// FixedAddress gives the Service an overlay address of its own, which stays when boxes change: Address, or one that the coordinator
	// chooses if that is the zero value.
	FixedAddress bool
	Address      netip.Addr
}

// ServiceInfo is a Service, where it is and who uses it.
type ServiceInfo struct {
	provisioning.Service
	SiteName string
	// Users are the names of the Sites that it is granted to.
	Users []string
	// At is where its users find it on the overlay; the zero value until its Site has a box.
	At netip.AddrPort
	// Archive is what a box of its Site has reported of it last; nil for nothing.
	Archive *wire.ArchiveFacts
}

// defaultPort is the usual port of a protocol: DICOM's registered one and HL7's over MLLP.
func defaultPort(p wire.Protocol) uint16 {
	if p == wire.HL7 {
		return 2575
	}
	return 11112
}

// CreateService makes a Service that nobody may use yet.
func (c *Coordinator) CreateService(ctx context.Context, actor string, n NewService) (ServiceInfo, error) {
	v := provisioning.Service{
		ID: provisioning.NewServiceID(), Name: n.Name, Protocol: n.Protocol, AETitle: strings.TrimSpace(n.AETitle),
		Receiver: strings.TrimSpace(n.Receiver), Mode: cmp.Or(n.Mode, wire.Queued), Target: n.Target, HL7: sortedHL7(n.HL7), Queue: n.Queue, DICOM: sortedDICOM(n.DICOM), Created: c.stamp(),
	}
	var info ServiceInfo
	err := c.change(ctx, actor, "service.create", func(tx store.Tx) (string, string, error) {
		site, err := siteNamed(tx, n.Site)
		if err != nil {
			return "", "", err
		}
		v.Site = site.ID
		if v.Port, err = freePort(tx, site, defaultPort(v.Protocol)); err != nil {
			return "", "", err
		}
		if err := v.Validate(); err != nil {
			return "", "", err
		}
		if err := targetIsLAN(tx, v.Target); err != nil {
			return "", "", err
		}
		if n.FixedAddress {
			if v.Address, err = fixedAddress(tx, site, n.Address); err != nil {
				return "", "", err
			}
		}
		if err := tx.Services().Create(v); errors.Is(err, store.ErrExists) {
			return "", "", provisioning.Errorf(provisioning.Conflict, "there is a service named %s already", n.Name).
				WithHint("names of services are unique in the whole network; choose another one")
		} else if err != nil {
			return "", "", fmt.Errorf("store the service: %w", err)
		}
		info = ServiceInfo{Service: v, SiteName: site.Name}
		detail := fmt.Sprintf("%s at %s, target %s, port %d", v.Protocol, site.Name, v.Target, v.Port)
		if v.Address.IsValid() {
			detail += fmt.Sprintf(", fixed address %s", v.Address)
		}
		return v.Name, detail, nil
	})
	if err != nil {
		return ServiceInfo{}, err
	}
	infos := []ServiceInfo{info}
	err = c.locate(ctx, infos)
	return infos[0], err
}

// targetIsLAN refuses a target inside the overlay: it would lead back into the tunnel.
func targetIsLAN(tx store.Tx, target string) error {
	ap, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil //nolint:nilerr // a name: the gateway resolves it on its own LAN
	}
	a := ap.Addr().Unmap().WithZone("")
	ranges, err := tx.Ranges().Overlapping(netip.PrefixFrom(a, a.BitLen()))
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	for _, r := range ranges {
		if r.Kind == provisioning.RangePool {
			return provisioning.Errorf(provisioning.Invalid, "the target %s is in the pool %v of the network itself", target, r.Prefix).
				WithHint("give the address of the machine on the site's own LAN")
		}
	}
	return nil
}

// freePort returns the smallest port from first on that no Service of the Site has.
func freePort(tx store.Tx, site provisioning.Site, first uint16) (uint16, error) {
	services, err := tx.Services().List()
	if err != nil {
		return 0, fmt.Errorf("read the services: %w", err)
	}
	taken := map[uint16]bool{}
	for _, v := range services {
		if v.Site == site.ID {
			taken[v.Port] = true
		}
	}
	for p := int(first); p <= math.MaxUint16; p++ {
		if !taken[uint16(p)] {
			return uint16(p), nil
		}
	}
	return 0, provisioning.Errorf(provisioning.Conflict, "site %s has no free port left", site.Name).WithHint("remove a service")
}

// Services returns all by name.
func (c *Coordinator) Services(ctx context.Context) ([]ServiceInfo, error) {
	var infos []ServiceInfo
	err := c.st.View(ctx, func(tx store.Tx) error {
		services, err := tx.Services().List()
		if err != nil {
			return err
		}
		grants, err := tx.Grants().List()
		if err != nil {
			return err
		}
		names, err := siteNames(tx)
		if err != nil {
			return err
		}
		nodes, err := tx.Nodes().List()
		if err != nil {
			return err
		}
		users := map[provisioning.ServiceID][]string{}
		for _, g := range grants {
			users[g.Service] = append(users[g.Service], names[g.Site])
		}
		infos = make([]ServiceInfo, 0, len(services))
		for _, v := range services {
			infos = append(infos, ServiceInfo{Service: v, SiteName: names[v.Site], Users: users[v.ID], Archive: archiveOf(nodes, v)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the services: %w", err)
	}
	if err := c.locate(ctx, infos); err != nil {
		return nil, err
	}
	return infos, nil
}

// locate says of Services where they are on the overlay.
func (c *Coordinator) locate(ctx context.Context, infos []ServiceInfo) error {
	x, err := c.newest(ctx)
	if err != nil {
		return err
	}
	for i := range infos {
		infos[i].At = x.At(infos[i].ID)
	}
	return nil
}

// RemoveService removes a Service that nobody is allowed to use any more.
func (c *Coordinator) RemoveService(ctx context.Context, actor, service string) error {
	return c.change(ctx, actor, "service.remove", func(tx store.Tx) (string, string, error) {
		v, err := serviceNamed(tx, service)
		if err != nil {
			return "", "", err
		}
		grants, err := tx.Grants().List()
		if err != nil {
			return "", "", fmt.Errorf("read the grants: %w", err)
		}
		var users []string
		for _, g := range grants {
			if g.Service == v.ID && len(users) < 8 {
				users = append(users, ownerName(tx, string(g.Site)))
			}
		}
		if len(users) > 0 {
			return "", "", provisioning.Errorf(provisioning.Conflict, "service %s is still granted to %s", v.Name, strings.Join(users, ", ")).
				WithHint("take the grants away first, so that nobody loses the service by surprise")
		}
		if err := tx.Services().Remove(v.ID); err != nil {
			return "", "", fmt.Errorf("remove the service: %w", err)
		}
		return v.Name, string(v.ID), nil
	})
}
