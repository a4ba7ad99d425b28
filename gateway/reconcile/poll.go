package reconcile

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/towpath/towpath/gateway/health"
	"github.com/towpath/towpath/provisioning/wire"
	"github.com/towpath/towpath/proxy/dicom"
	"github.com/towpath/towpath/proxy/dicom/poll"
)

// CodePoll begins the Condition of a poll that cannot run, and ends with its service.
const CodePoll = "poll-setup/"

// Poll is an archive of the own Site that is asked for new studies, which go into a queue.
type Poll struct {
	Service, Queue, AETitle string
	Options                 wire.PollOptions
	// Urgent are those options of the Service that say what is urgent.
	Urgent wire.DICOMOptions
}

// poll adds what a Use asks for.
func (c *compiler) poll(u wire.Use, queue string) {
	switch {
	case u.Poll == wire.PollOptions{}:
	case u.Protocol != wire.DICOM:
		c.problem(u.Service, "studies can be fetched for DICOM services only")
	default:
		urgent := wire.DICOMOptions{UrgentCallers: u.DICOM.UrgentCallers, UrgentClasses: u.DICOM.UrgentClasses, UrgentStat: u.DICOM.UrgentStat}
		c.polls = append(c.polls, Poll{Service: u.Service, Queue: queue, AETitle: u.AETitle, Options: u.Poll, Urgent: urgent})
	}
}

// polling is one archive being polled.
type polling struct {
	spec   Poll
	poller *poll.Poller
	cancel context.CancelFunc
	done   chan struct{}
}

func (p *polling) stop() {
	p.cancel()
	<-p.done
}

func (r *Runner) applyPolls(ctx context.Context, want []Poll) {
	specs := make(map[string]Poll, len(want))
	for _, p := range want {
		specs[p.Queue] = p
	}
	for k, run := range r.polls {
		if specs[k] == run.spec && !isClosed(run.done) {
			continue
		}
		run.stop()
		r.setPoll(k, nil)
	}
	var codes []string
	for _, p := range want {
		if r.polls[p.Queue] != nil {
			continue
		}
		run, err := r.startPoll(ctx, p)
		if err != nil {
			codes = append(codes, CodePoll+p.Service)
			r.cfg.Health.Raise(CodePoll+p.Service, health.Error, "studies cannot be fetched for "+p.Service+": "+err.Error(), time.Now())
			continue
		}
		r.setPoll(p.Queue, run)
	}
	r.cfg.Health.Keep(CodePoll, codes)
}

// setPoll notes what fills a queue; nil is nothing.
func (r *Runner) setPoll(queue string, run *polling) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run == nil {
		delete(r.polls, queue)
		return
	}
	r.polls[queue] = run
}

func (r *Runner) startPoll(ctx context.Context, p Poll) (*polling, error) {
	o := p.Options
	since, err := o.Day()
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what is no day
	}
	hours, err := poll.ParseHours(o.Hours)
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what is wrong
	}
	calling := o.CallingAE
	if calling == "" {
		calling = p.AETitle
	}
	source := poll.Archive{
		Querier: dicom.NewQuerier(dicom.QueryConfig{
			Network: r.cfg.LANNet, Target: o.Target, CallingAE: calling, CalledAE: o.CalledAE, Log: r.cfg.Log,
		}),
		Queue: r.urgencyOf(p.Urgent).Queue(r.cfg.Queue), Name: p.Queue,
	}
	if o.Move {
		source.Destination = p.AETitle
	}
	// Another archive has other studies: its journal is another one.
	at, ok := r.cfg.Queue.(interface{ Dir() string })
	if !ok {
		return nil, errNoFolders
	}
	name := strings.NewReplacer(":", "_", "/", "_", "[", "_", "]", "_", " ", "_").Replace(p.Queue + "." + o.Target + "." + o.CalledAE)
	poller, err := poll.New(poll.Config{
		Source: source, Journal: filepath.Join(at.Dir(), "books", name+".polled"), Since: since, Every: seconds(o.Every), Overlap: seconds(o.Overlap),
		Settle: seconds(o.Settle), Hours: hours, Modalities: o.ModalityList(), Log: r.cfg.Log.With("subsystem", "poll", "service", p.Service),
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // it says what failed
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	run := &polling{spec: p, poller: poller, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(run.done)
		if err := poller.Run(ctx); err != nil {
			r.cfg.Log.Error("polling ended", "service", p.Service, "error", err)
		}
	}()
	return run, nil
}

// PollReport is how complete the work for one Service is.
type PollReport struct {
	Service string `json:"service"`
	Queue   string `json:"queue"`
	Archive string `json:"archive"`
	poll.Report
}

// Polls returns the reports of all archives that are polled. It may be called at any time.
func (r *Runner) Polls() []PollReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []PollReport
	for _, run := range r.polls {
		out = append(out, PollReport{
			Service: run.spec.Service, Queue: run.spec.Queue, Archive: run.spec.Options.CalledAE + " at " + run.spec.Options.Target, Report: run.poller.Report(),
		})
	}
	slices.SortFunc(out, func(a, b PollReport) int { return strings.Compare(a.Service, b.Service) })
	return out
}
