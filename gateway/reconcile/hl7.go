package reconcile

import (
	"cmp"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/hl7"
	"github.com/towpath/towpath/proxy/hl7/gdt"
	"github.com/towpath/towpath/proxy/spool"
)

// hopTime is how much longer the sender's gateway waits for an answer than the receiver's, which has to open a connection first.
const hopTime = 15 * time.Second

// HL7 is what a Runner needs for HL7 besides networks and queue. The zero value remembers no message, counts nothing and writes no folder.
type HL7 struct {
	Ledger   *hl7.Ledger
	Counters *hl7.Counters
	// Folders is the directory in which Services have folders of their own.
	Folders string
}

// Queue is what a Runner fills and empties.
type Queue interface {
	spool.Queue
	// Halt says whether in an ordered queue what was refused holds up what is behind it.
	Halt(queue string, on bool) error
	// Limit bounds what a queue may hold.
	Limit(queue string, l spool.Limits) error
}

// ReturnQueueName is the queue of acknowledgments for a Service of the own Site.
func ReturnQueueName(service string) string { return string(wire.HL7) + ".return." + service }

// offered is the Route from the overlay to a Service of the own Site.
func (c *compiler) offered(o wire.Offer) Route {
	r := Route{Service: o.Service, AETitle: o.AETitle, Mode: wire.PassThrough, Target: o.Target, Via: LAN, TLS: c.lanTLS.Target(o.Service), HL7: o.HL7, DICOM: o.DICOM}
	folder, is := strings.CutPrefix(o.Target, wire.FolderTarget)
	if is && o.Protocol == wire.HL7 {
		r.Target, r.Folder = "", folder
	}
	// What a queue delivers comes again when its answer was lost; what is passed through comes again when somebody asks again.
	r.Once = o.Protocol == wire.HL7 && o.Mode == wire.Queued
	if o.Protocol == wire.HL7 && o.HL7.Acks {
		d := Delivery{Queue: ReturnQueueName(o.Service), Service: o.Service, Protocol: wire.HL7, LAN: r.Target, Folder: r.Folder, TLS: r.TLS, HL7: o.HL7}
		c.deliveries = append(c.deliveries, d)
		c.returns = append(c.returns, Return{Receiver: o.Receiver, Queue: d.Queue})
	}
	return r
}

func (r *Runner) hl7Router(l Listener) (*hl7.Router, error) {
	cfg := hl7.RouterConfig{Queue: r.cfg.Queue, Ledger: r.cfg.HL7.Ledger, Counters: r.cfg.HL7.Counters, Log: r.cfg.Log, Admit: r.door.admit(l)}
	for _, x := range l.Routes {
		route := hl7.Route{Service: x.Service, Receiver: x.Receiver, Types: x.HL7.TypeList(), AckTimeout: seconds(x.HL7.AckTimeout)}
		if l.Side == LAN {
			route.Copy, route.CommitSender = x.HL7.Copy, x.HL7.CommitSender
		} else {
			// Who may send what was decided where it came from.
			route.Receiver, route.Types = "", nil
			route.CommitTarget = x.HL7.CommitTarget
		}
		switch {
		case x.Folder != "":
			f, err := r.folders.get(x.Folder)
			if err != nil {
				return nil, err
			}
			route.Mode, route.Folder, route.Format = hl7.Filed, f, gdtFormat(x.HL7.GDT)
		case x.Mode == wire.Queued:
			route.Mode, route.QueueName, route.UrgentStat = hl7.Queued, x.Queue, x.HL7.UrgentStat
		default:
			route.Mode, route.Target, route.Network, route.Once = hl7.PassThrough, x.Target, r.way(x), x.Once
			if l.Side == LAN {
				route.AckTimeout = farTimeout(x.HL7)
			}
		}
		cfg.Routes = append(cfg.Routes, route)
	}
	return hl7.NewRouter(cfg) //nolint:wrapcheck // startListener adds the listener's name
}

func (r *Runner) hl7Sink(d Delivery) spool.Sink {
	if d.Folder != "" {
		f, err := r.folders.get(d.Folder)
		if err != nil {
			return brokenSink{err}
		}
		return hl7.NewFolderSink(f, r.cfg.HL7.Ledger, gdtFormat(d.HL7.GDT))
	}
	cfg := hl7.SinkConfig{
		Service: d.Service, Network: r.cfg.OverlayNet, Target: d.Target.String(), ErrorRetries: d.HL7.Retries, Ledger: r.cfg.HL7.Ledger,
		Returns: r.returns, Counters: r.cfg.HL7.Counters, Log: r.cfg.Log,
	}
	cfg.AckTimeout = farTimeout(d.HL7)
	if d.LAN != "" {
		cfg.Network, cfg.Target, cfg.Commit, cfg.AckTimeout = r.reach(d.TLS), d.LAN, d.HL7.CommitTarget, seconds(d.HL7.AckTimeout)
	}
	return hl7.NewSink(cfg)
}

// farTimeout is for the gateway of the sender.
func farTimeout(o wire.HL7Options) time.Duration {
	return cmp.Or(seconds(o.AckTimeout), hl7.DefaultAckTimeout) + hopTime
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// applyHL7 makes known where acknowledgments go, and which queues stop behind what was refused.
func (r *Runner) applyHL7(d Desired) {
	var routes []hl7.ReturnRoute
	for _, x := range d.Returns {
		routes = append(routes, hl7.ReturnRoute{Receiver: x.Receiver, QueueName: x.Queue})
	}
	r.returns.Set(routes)
	for _, x := range d.Deliveries {
		if err := r.cfg.Queue.Halt(x.Queue, x.HL7.Behind == wire.Stop); err != nil {
			r.cfg.Log.Error("the order of a queue cannot be set", "queue", x.Queue, "error", err)
		}
	}
}

// folders are those that Services have on this box, each opened once.
type folders struct {
	cfg RunnerConfig

	mu   sync.Mutex
	open map[string]*hl7.Folder
}

var errNoFolders = errors.New("this box has no directory for folders of services: start it with --folders")

func (f *folders) get(name string) (*hl7.Folder, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.open[name]; o != nil {
		return o, nil
	}
	if f.cfg.HL7.Folders == "" {
		return nil, errNoFolders
	}
	if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
		return nil, errors.New("the name of the folder is no name")
	}
	o, err := hl7.NewFolder(hl7.FolderConfig{Dir: filepath.Join(f.cfg.HL7.Folders, name), Ledger: f.cfg.HL7.Ledger, Log: f.cfg.Log})
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what for
	}
	f.open[name] = o
	return o, nil
}

// gdtFormat is nil for messages that are written as they are.
func gdtFormat(o wire.GDTOptions) hl7.Format {
	if o == (wire.GDTOptions{}) {
		return nil
	}
	return gdtFiles{gdt.Options{Receiver: o.Receiver, Sender: o.Sender, Procedure: o.Procedure, Charset: gdt.Charset(o.Charset)}}
}

// gdtFiles implements hl7.Format.
type gdtFiles struct{ gdt.Options }

func (g gdtFiles) Files(msg []byte, stem string) ([]byte, []hl7.Beside, error) {
	record, documents, err := gdt.Convert(msg, stem, g.Options)
	var beside []hl7.Beside
	for _, d := range documents {
		beside = append(beside, hl7.Beside(d))
	}
	return record, beside, err //nolint:wrapcheck // it says what cannot be
}

func (gdtFiles) Names() int { return gdt.MaxName }
