package dicom

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"time"
)

const (
	// maxCapabilities bounds an encoded Capabilities in bytes, maxProbeClasses the SOP classes in it and maxProbeSyntaxes the transfer
	// syntaxes.
	maxCapabilities  = 128 << 10
	maxProbeClasses  = 1024
	maxProbeSyntaxes = 64
)

// Capabilities are what an archive accepts, as it was found out by proposing presentation contexts to it: pairs of SOP class and transfer
// syntax, each in a context of its own. A SOP class that it was asked for and refuses is there without transfer syntaxes.
type Capabilities struct {
	// Probed is when, and CallingAE as whom it was asked.
	Probed    time.Time `json:"probed"`
	CallingAE string    `json:"calling_ae"`
	// ImplementationClass and ImplementationVersion are what the archive calls its software.
	ImplementationClass   string `json:"implementation_class,omitempty"`
	ImplementationVersion string `json:"implementation_version,omitempty"`
	// Syntaxes are the transfer syntaxes that it was asked for, at most 64. Classes has for each SOP class the set of those that it takes:
	// bit n is Syntaxes[n].
	Syntaxes []string          `json:"syntaxes"`
	Classes  map[string]uint64 `json:"classes"`
}

// verdict says whether an archive takes something.
type verdict uint8

const (
	notAsked verdict = iota // nobody knows
	taken
	classRefused
	syntaxRefused
)

// judge says whether the archive takes a kind of object.
func (c *Capabilities) judge(k kind) verdict {
	if c == nil {
		return notAsked
	}
	set, asked := c.Classes[k.class]
	i := slices.Index(c.Syntaxes, k.syntax)
	switch {
	case !asked:
		return notAsked
	case set == 0:
		return classRefused
	case i < 0:
		return notAsked
	case set&(1<<i) == 0:
		return syntaxRefused
	}
	return taken
}

// Taken counts the storage SOP classes that the archive takes and the pairs of class and transfer syntax.
func (c *Capabilities) Taken() (classes, pairs int) {
	for uid, set := range c.Classes {
		if set != 0 && IsStorageClass(uid) {
			classes++
			pairs += bits.OnesCount64(set)
		}
	}
	return classes, pairs
}

// Commits reports whether the archive offers storage commitment.
func (c *Capabilities) Commits() bool { return c != nil && c.Classes[StorageCommitment] != 0 }

// Software names the archive's software for a person.
func (c *Capabilities) Software() string {
	switch {
	case c.ImplementationVersion != "":
		return c.ImplementationVersion
	case c.ImplementationClass != "":
		return c.ImplementationClass
	}
	return "unnamed"
}

// Same reports whether c and o say the same of the archive, whenever and as whomever it was asked.
func (c *Capabilities) Same(o *Capabilities) bool {
	return c.ImplementationClass == o.ImplementationClass && c.ImplementationVersion == o.ImplementationVersion &&
		slices.Equal(c.Syntaxes, o.Syntaxes) && maps.Equal(c.Classes, o.Classes)
}

// Lost returns how many pairs c takes that o, which is newer and was asked for them, refuses, and Gained the other way round.
func (c *Capabilities) Lost(o *Capabilities) int {
	n := 0
	for class := range c.Classes {
		for _, syntax := range c.Syntaxes {
			k := kind{class: class, syntax: syntax}
			if v := o.judge(k); c.judge(k) == taken && (v == classRefused || v == syntaxRefused) {
				n++
			}
		}
	}
	return n
}

// Encode returns the form in which Capabilities travel and are saved.
func (c *Capabilities) Encode() ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode what an archive accepts: %w", err)
	}
	return b, nil
}

// DecodeCapabilities reads what Encode has made. It refuses what is longer than 128 KiB or makes no sense.
func DecodeCapabilities(b []byte) (*Capabilities, error) {
	if len(b) > maxCapabilities {
		return nil, errors.New("what an archive accepts is described at too great a length")
	}
	c := &Capabilities{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("read what an archive accepts: %w", err)
	}
	return c, c.check()
}

func (c *Capabilities) check() error {
	if c.Probed.IsZero() || len(c.Syntaxes) == 0 || len(c.Syntaxes) > maxProbeSyntaxes || len(c.Classes) > maxProbeClasses {
		return errors.New("what an archive accepts has no time, or no or too many transfer syntaxes or SOP classes")
	}
	for i, s := range c.Syntaxes {
		if !ValidUID(s) || slices.Contains(c.Syntaxes[:i], s) {
			return errors.New("what an archive accepts names a wrong transfer syntax")
		}
	}
	for uid, set := range c.Classes {
		if !ValidUID(uid) || bits.Len64(set) > len(c.Syntaxes) {
			return errors.New("what an archive accepts names a wrong SOP class")
		}
	}
	c.CallingAE, c.ImplementationClass = printable(c.CallingAE), printable(c.ImplementationClass)
	c.ImplementationVersion = printable(c.ImplementationVersion)
	return nil
}
