package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
)

// Times of asking archives what they accept.
const (
	twinsEvery = 15 * time.Second // a look whether something is due
	probeEvery = 24 * time.Hour   // of an archive on this Site
	fetchEvery = 10 * time.Minute // from the gateway in front of another Site's
	probeApart = time.Minute      // between two tries
	doubtApart = 5 * time.Minute  // between two because something contradicts, of which an archive may make many
	probeLimit = 5 * time.Minute  // for one
	twinsAtOne = 4                // archives asked at the same time
)

// twins keeps what the gateway knows of archives: it probes those of its own Site's services, and asks other gateways for those of the
// services that this Site uses by a queue. What is known is saved, so that it outlives a restart without a line.
type twins struct {
	g   *Gateway
	all *dicom.Twins

	saving sync.Mutex // guards saved
	saved  []byte

	mu    sync.Mutex
	busy  map[string]*sync.Mutex // one question at a time for each service
	asked map[string]time.Time   // the last try
}

// newTwins reads what was saved. Trouble with that is no reason not to start: it is found out again.
func newTwins(g *Gateway) *twins {
	t := &twins{g: g, busy: map[string]*sync.Mutex{}, asked: map[string]time.Time{}}
	t.all = dicom.NewTwins(func(ctx context.Context, service string) error { return t.ask(ctx, service, false) })
	saved, err := g.opt.Dir.Archives()
	if err != nil {
		g.opt.Log.Warn("what archives accept has to be found out anew", "error", err)
	}
	for service, b := range saved {
		c, err := dicom.DecodeCapabilities(b)
		if err != nil {
			g.opt.Log.Warn("what an archive accepts has to be found out anew", "service", service, "error", err)
			continue
		}
		t.all.Of(service).Set(c)
	}
	return t
}

// archive is one that the gateway asks about.
type archive struct {
	service string
	ae      string
	options wire.DICOMOptions
	// target is its own host and port for a Service of this Site, else its place on the overlay.
	target string
	own    bool
}

// archives lists those of a map.
func archives(m wire.NetMap) []archive {
	var out []archive
	for _, o := range m.Offers {
		if o.Protocol == wire.DICOM {
			out = append(out, archive{service: o.Service, ae: o.AETitle, options: o.DICOM, target: o.Target, own: true})
		}
	}
	for _, u := range m.Uses {
		if u.Protocol == wire.DICOM && u.Mode == wire.Queued {
			out = append(out, archive{service: u.Service, ae: u.AETitle, options: u.DICOM, target: u.Address.String()})
		}
	}
	return out
}

func (t *twins) loop(ctx context.Context) error {
	tick := time.NewTicker(twinsEvery)
	defer tick.Stop()
	<-t.g.up
	for {
		t.round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-t.all.Doubted():
		}
	}
}

// round asks for everything that is due.
func (t *twins) round(ctx context.Context) {
	m, now := t.g.currentMap(), time.Now()
	var group errgroup.Group
	group.SetLimit(twinsAtOne)
	var names []string
	for _, a := range archives(m) {
		names = append(names, a.service)
		if !t.due(a, now) {
			continue
		}
		group.Go(func() error {
			if err := t.question(ctx, a, false); err != nil && ctx.Err() == nil {
				t.g.opt.Log.Debug("what an archive accepts was not found out", "service", a.service, "error", err)
			}
			return nil
		})
	}
	_ = group.Wait() // nothing in it returns an error
	t.all.Keep(names)
	t.save()
}

// due says whether to ask now.
func (t *twins) due(a archive, now time.Time) bool {
	t.mu.Lock()
	last := t.asked[a.service]
	t.mu.Unlock()
	s := t.all.Of(a.service).Status()
	wait := fetchEvery
	if a.own {
		wait = probeEvery
	}
	switch {
	case s.Failure.Tries > 0:
		wait = min(probeApart<<min(s.Failure.Tries-1, 6), time.Hour)
	case s.Doubt != "":
		wait = doubtApart
	case a.own && last.IsZero():
		last = s.Probed // the daily round goes on over a restart, unless there is reason to doubt
	}
	return now.Sub(last) >= wait
}

// ask asks about one service, at most once in doubtApart, or in probeApart after a failure, unless a person wants it.
func (t *twins) ask(ctx context.Context, service string, person bool) error {
	for _, a := range archives(t.g.currentMap()) {
		if a.service == service {
			return t.question(ctx, a, person)
		}
	}
	return errors.New("this box neither offers a DICOM service of this name nor uses one by a queue")
}

func (t *twins) question(ctx context.Context, a archive, person bool) error {
	t.mu.Lock()
	busy := t.busy[a.service]
	if busy == nil {
		busy = &sync.Mutex{}
		t.busy[a.service] = busy
	}
	t.mu.Unlock()
	busy.Lock()
	defer busy.Unlock()
	twin := t.all.Of(a.service)
	before := twin.Status()
	t.mu.Lock()
	apart := doubtApart
	if before.Failure.Tries > 0 {
		apart = probeApart
	}
	recent := !person && time.Since(t.asked[a.service]) < apart
	if !recent {
		t.asked[a.service] = time.Now()
	}
	t.mu.Unlock()
	if recent {
		if before.Failure.Tries > 0 {
			return errors.New(before.Failure.Reason)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	var err error
	if a.own {
		err = t.probe(ctx, a, twin)
	} else {
		err = twin.Fetch(ctx, dicom.FetchConfig{
			Network: t.g.opt.Device, Target: a.target, CalledAE: a.ae, Fresh: person || before.Doubt != "", Log: t.g.opt.Log,
		})
	}
	if err != nil {
		twin.Fail(err, time.Now())
	}
	return err
}

// probe asks an archive of this Site.
func (t *twins) probe(ctx context.Context, a archive, twin *dicom.Twin) error {
	calling := []string{a.options.ProbeAE}
	if c := twin.Capabilities(); c != nil {
		calling = append(calling, c.CallingAE)
	}
	calling = append(append(calling, dicom.DefaultCallingAE), twin.Callers()...)
	var tried []string
	for _, ae := range calling {
		if ae != "" && !slices.Contains(tried, ae) {
			tried = append(tried, ae)
		}
	}
	began := time.Now()
	c, err := dicom.Probe(ctx, dicom.ProbeConfig{
		Network: t.g.devicesNet(), Target: a.target, CallingAEs: tried, CalledAE: a.ae, Also: t.also(twin), Log: t.g.opt.Log,
	})
	if err != nil {
		return err
	}
	classes, pairs := c.Taken()
	t.g.opt.Log.Info("archive asked what it accepts", "service", a.service, "software", c.Software(), "classes", classes, "pairs", pairs,
		"took", time.Since(began))
	twin.Set(c)
	return nil
}

// also are the SOP classes that came up, and those that came up before.
func (t *twins) also(twin *dicom.Twin) []string {
	out := twin.Wanted()
	if c := twin.Capabilities(); c != nil {
		for class := range c.Classes {
			out = append(out, class)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// save writes what is known if it has changed.
func (t *twins) save() {
	t.saving.Lock()
	defer t.saving.Unlock()
	m := map[string]json.RawMessage{}
	for service, c := range t.all.Snapshot() {
		b, err := c.Encode()
		if err != nil {
			t.g.opt.Log.Error("what an archive accepts cannot be saved", "service", service, "error", err)
			return
		}
		m[service] = b
	}
	all, err := json.Marshal(m)
	if err == nil && string(all) != string(t.saved) {
		if err = t.g.opt.Dir.SaveArchives(m); err == nil {
			t.saved = all
		}
	}
	if err != nil {
		t.g.opt.Log.Error("what archives accept cannot be saved", "error", err)
	}
}

// status describes the archives of a map.
func (t *twins) status(m wire.NetMap) []dicom.TwinStatus {
	var out []dicom.TwinStatus
	for _, a := range archives(m) {
		out = append(out, t.all.Of(a.service).Status())
	}
	return out
}

// facts are what the coordinator hears of the Site's own archives.
func (t *twins) facts() []wire.ArchiveFacts {
	var out []wire.ArchiveFacts
	for _, a := range archives(t.g.currentMap()) {
		if s := t.all.Of(a.service).Status(); a.own {
			out = append(out, wire.ArchiveFacts{
				Service: s.Service, Probed: s.Probed, Software: s.Software, Classes: s.Classes, Pairs: s.Pairs, Problem: s.Failure.Reason,
			})
		}
	}
	return out
}

// ProbeService implements localapi.Gateway.
func (g *Gateway) ProbeService(ctx context.Context, service string) (dicom.TwinStatus, error) {
	if err := g.twins.ask(ctx, service, true); err != nil {
		return dicom.TwinStatus{}, fmt.Errorf("service %s: %w", service, err)
	}
	g.twins.save()
	return g.twins.all.Of(service).Status(), nil
}
