package provisioning

import "net/netip"

// CheckPrefix refuses what is no prefix of a plan: host bits, IPv4 mapped into IPv6 (RFC 4291 §2.5.5.2). The error is an *Error with
// code Invalid.
func CheckPrefix(p netip.Prefix) error {
	if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
		return Errorf(Invalid, "%v is no prefix of a plan", p).
			WithHint("write the network's own address and a length, such as 10.64.0.0/10")
	}
	return nil
}

// Validate checks everything about r that needs no other Range, as the database does. The error is an *Error with code Invalid.
func (r Range) Validate() error {
	return first(
		CheckPrefix(r.Prefix),
		checkChoice("kind of range", r.Kind, RangePool, RangeAllocation, RangeReserved, RangeForeign, RangeLAN, RangeReported),
		r.checkOwner(),
		r.checkPurpose(),
		r.checkMaps(),
		r.checkLabel(),
		r.checkUntil(),
	)
}

func (r Range) checkOwner() error {
	switch r.Kind {
	case RangePool, RangeForeign:
		if r.Owner != "" {
			return Errorf(Invalid, "a %s range has no owner", r.Kind).WithHint("leave the site out")
		}
	case RangeLAN, RangeReported:
		if r.Owner == "" {
			return Errorf(Invalid, "a %s range needs an owner", r.Kind).WithHint("name the site whose network it is")
		}
	case RangeAllocation, RangeReserved:
	}
	return nil
}

func (r Range) checkPurpose() error {
	switch {
	case r.Kind == RangeAllocation:
		return checkChoice("purpose of an allocation", r.Purpose, PurposeOverlay, PurposeMapped, PurposeWorkstation, PurposeServices)
	case r.Kind == RangeReported:
		return checkChoice("purpose of a reported range", r.Purpose, PurposeLAN, PurposeWAN, PurposeContainer)
	case r.Purpose != "":
		return Errorf(Invalid, "a %s range has no purpose", r.Kind).WithHint("leave it out")
	}
	return nil
}

func (r Range) checkMaps() error {
	if r.Kind != RangeAllocation || r.Purpose != PurposeMapped {
		if r.Maps != (netip.Prefix{}) {
			return Errorf(Invalid, "only a mapped allocation stands for a part of a LAN").WithHint("choose the purpose %q", PurposeMapped)
		}
		return nil
	}
	if err := CheckPrefix(r.Maps); err != nil {
		return err
	}
	if r.Maps.Bits() != r.Prefix.Bits() || r.Maps.Addr().Is4() != r.Prefix.Addr().Is4() {
		return Errorf(Invalid, "%v cannot stand for %v", r.Prefix, r.Maps).
			WithHint("the two must have the same family and length, because each address stands for one")
	}
	return nil
}

func (r Range) checkLabel() error {
	switch r.Kind {
	case RangeForeign, RangeLAN, RangeReported:
		if r.Label != "" {
			return Errorf(Invalid, "a %s range has no label", r.Kind).WithHint("write it into the note")
		}
	case RangePool, RangeAllocation, RangeReserved:
	}
	return nil
}

func (r Range) checkUntil() error {
	if r.Until.IsZero() || r.Kind == RangeAllocation || r.Kind == RangeReserved && r.Owner == "" {
		return nil
	}
	return Errorf(Invalid, "a %s range has no end", r.Kind).WithHint("only allocations and what is quarantined end by themselves")
}
