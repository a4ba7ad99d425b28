package dicom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/towpath/towpath/proxy"
	"github.com/towpath/towpath/proxy/dicom/dimse"
)

// StoreConfig says where files go.
type StoreConfig struct {
	Network proxy.Network
	// Target is a host and port that the Network understands.
	Target string
	// CallingAE is our own AE title (empty means DefaultCallingAE), CalledAE the device's.
	CallingAE, CalledAE string
	Limits              Limits
	// Log may be nil.
	Log *slog.Logger
}

// Object is one DICOM file to be sent.
type Object struct {
	// Name is shown in StoreEvents and nowhere else.
	Name string
	// Open opens the file from its start. It is called twice: to see what it is, and to send it.
	Open func() (io.ReadCloser, error)
}

// FileObject is an Object that is a file on disk.
func FileObject(path string) Object {
	return Object{Name: path, Open: func() (io.ReadCloser, error) { return os.Open(path) }}
}

// BytesObject is an Object in memory.
func BytesObject(name string, b []byte) Object {
	return Object{Name: name, Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
}

// StoreEvent says what became of one Object.
type StoreEvent struct {
	// Index counts from 0 to Total-1.
	Index, Total int
	Name         string
	// Bytes is the size of the data set if it was sent.
	Bytes int64
	// Status is the device's answer; it counts only if Err is nil or the device answered with a failure.
	Status   dimse.Status
	Err      error
	Duration time.Duration
}

// StoreReport counts.
type StoreReport struct {
	// Sent objects were taken, Warned of them with a remark; Failed ones were not.
	Sent, Warned, Failed int
	// Bytes of data sets that were taken.
	Bytes    int64
	Duration time.Duration
}

// Store sends DICOM files, their data sets unchanged, over one association, or several where files are of more than 128 kinds.
// Progress, which may be nil, is called after each. Files that cannot be read or are refused are counted and the next one is
// tried; the error says that something failed and why the first did. An association that cannot be opened ends the job.
func Store(ctx context.Context, cfg StoreConfig, objects []Object, progress func(StoreEvent)) (StoreReport, error) {
	j := storeJob{
		user: newUser(cfg.Network, cfg.Target, cfg.CalledAE, cfg.Limits, cfg.Log), calling: callingOr(cfg.CallingAE),
		objects: objects, kinds: make([]kind, len(objects)),
	}
	defer func() { j.user.release(ctx) }()
	began := time.Now()
	var first error
	for i, o := range objects {
		ev := j.send(ctx, i)
		ev.Index, ev.Total, ev.Name = i, len(objects), o.Name
		if ev.Err == nil {
			j.report.Sent++
			j.report.Bytes += ev.Bytes
			if ev.Status != dimse.Success {
				j.report.Warned++
			}
		} else {
			j.report.Failed++
			if first == nil {
				first = ev.Err
			}
		}
		if progress != nil {
			progress(ev)
		}
		if isA[*connectError](ev.Err) || ctx.Err() != nil {
			j.report.Failed = len(objects) - j.report.Sent
			break
		}
	}
	j.report.Duration = time.Since(began)
	if first != nil {
		return j.report, fmt.Errorf("%d of %d objects were not sent: %w", j.report.Failed, len(objects), first)
	}
	return j.report, nil
}

// connectError marks an error after which trying the next object makes no sense.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }

func (e *connectError) Unwrap() error { return e.err }

// storeJob is one call of Store.
type storeJob struct {
	user    *user
	calling string
	objects []Object
	kinds   []kind // by index; zero until looked at
	report  StoreReport
}

func (j *storeJob) send(ctx context.Context, i int) (ev StoreEvent) {
	began := time.Now()
	defer func() { ev.Duration = time.Since(began) }()
	f, err := j.objects[i].Open()
	if err != nil {
		ev.Err = err
		return ev
	}
	defer func() { _ = f.Close() }() // only read
	meta, data, err := ReadPart10(f)
	if err != nil {
		ev.Err = err
		return ev
	}
	k := kind{class: meta.SOPClass, syntax: meta.TransferSyntax}
	j.kinds[i] = k
	id, err := j.context(ctx, i, k)
	if err != nil {
		ev.Err = err
		return ev
	}
	counted := &counter{r: data}
	resp, err := j.user.store(ctx, id, dimse.StoreRQ{SOPClass: meta.SOPClass, SOPInstance: meta.SOPInstance}, counted)
	ev.Bytes, ev.Status, ev.Err = counted.n, resp.Status, err
	if c := resp.Status.Class(); err == nil && c != dimse.ClassSuccess && c != dimse.ClassWarning {
		ev.Err = fmt.Errorf("%s answered with status %s", j.user.calledAE, resp.Status)
	}
	return ev
}

// context returns the context for k, opening an association for it and for as many of the kinds to come as fit.
func (j *storeJob) context(ctx context.Context, i int, k kind) (uint8, error) {
	if j.user.a != nil {
		if _, asked := j.user.proposed[k]; asked {
			return j.user.accepted(k)
		}
		j.user.release(ctx)
	}
	kinds := []kind{k}
	for n := i + 1; n < len(j.objects) && len(kinds) < maxContexts; n++ {
		if next := j.look(n); next != (kind{}) && !slices.Contains(kinds, next) {
			kinds = append(kinds, next)
		}
	}
	if err := j.user.open(ctx, j.calling, kinds); err != nil {
		return 0, &connectError{err}
	}
	return j.user.accepted(k)
}

// look returns the kind of an object; zero means that it cannot be read, which its turn to be sent will show.
func (j *storeJob) look(i int) kind {
	if j.kinds[i] != (kind{}) {
		return j.kinds[i]
	}
	f, err := j.objects[i].Open()
	if err != nil {
		return kind{}
	}
	defer func() { _ = f.Close() }() // only read
	meta, _, err := ReadPart10(f)
	if err != nil {
		return kind{}
	}
	j.kinds[i] = kind{class: meta.SOPClass, syntax: meta.TransferSyntax}
	return j.kinds[i]
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read the file: %w", err)
	}
	return n, err
}
