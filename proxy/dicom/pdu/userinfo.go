package pdu

import "encoding/binary"

// UserInfo is what the two ends tell each other about themselves (PS3.8 §9.3.2.3, annex D; PS3.7 §D.3.3). Unknown sub-items are
// kept and encoded again unchanged, after the known ones.
type UserInfo struct {
	// MaxLength is the largest P-DATA-TF body in bytes that this end takes (51H); 0 means no limit.
	MaxLength uint32
	// ImplementationClass (52H) names the implementation by a UID, ImplementationVersion (55H) by up to 16 characters.
	ImplementationClass   string
	ImplementationVersion string
	// Async is the asynchronous operations window (53H); nil means one operation at a time, which is also how it must be answered.
	Async *AsyncWindow
	Roles []Role
	// Extended are SOP class extended negotiations (56H).
	Extended []Extended
	// Identity is in a request (58H), IdentityResponse in an accept (59H); nil means absent.
	Identity         *UserIdentity
	IdentityResponse []byte
	// Unknown are all other sub-items, common extended negotiation (57H) among them.
	Unknown []Item
}

// AsyncWindow is how many operations may be under way at once (PS3.7 §D.3.3.3); 0 means no limit.
type AsyncWindow struct {
	Invoked, Performed uint16
}

// Role says for which roles of a SOP class the requestor asks, or which the acceptor grants (PS3.7 §D.3.3.4).
type Role struct {
	SOPClass string
	SCU, SCP bool
}

// Extended is application information of one SOP class (PS3.7 §D.3.3.5).
type Extended struct {
	SOPClass string
	Info     []byte
}

// UserIdentity is a credential (PS3.7 §D.3.3.7). It never prints.
type UserIdentity struct {
	// Type is 1 user name, 2 user name and passcode, 3 Kerberos, 4 SAML, 5 JSON web token.
	Type               uint8
	ResponseRequested  bool
	Primary, Secondary []byte
}

// String hides the credential.
func (UserIdentity) String() string { return "user identity (hidden)" }

// GoString hides the credential.
func (u UserIdentity) GoString() string { return u.String() }

func decodeUserInfo(b []byte, lim Limits) (UserInfo, error) {
	var u UserInfo
	for n := 0; len(b) > 0; n++ {
		if n == lim.MaxUserItems {
			return u, invalid("more than %d user information items", lim.MaxUserItems)
		}
		var it Item
		var err error
		if it, b, err = nextItem(b); err != nil {
			return u, err
		}
		if err := u.add(it); err != nil {
			return u, err
		}
	}
	return u, nil
}

func (u *UserInfo) add(it Item) error {
	switch it.Type {
	case itemMaxLength:
		if len(it.Data) != 4 {
			return invalid("the maximum length item has %d bytes instead of 4", len(it.Data))
		}
		u.MaxLength = binary.BigEndian.Uint32(it.Data)
	case itemClassUID:
		u.ImplementationClass = text(it.Data)
	case itemVersionName:
		u.ImplementationVersion = text(it.Data)
	case itemAsyncWindow:
		if len(it.Data) != 4 {
			return invalid("the asynchronous operations item has %d bytes instead of 4", len(it.Data))
		}
		u.Async = &AsyncWindow{Invoked: binary.BigEndian.Uint16(it.Data), Performed: binary.BigEndian.Uint16(it.Data[2:])}
	case itemRole:
		uid, rest, err := cutCounted(it.Data)
		if err != nil {
			return err
		}
		if len(rest) != 2 {
			return invalid("a role selection item has %d bytes after its UID instead of 2", len(rest))
		}
		u.Roles = append(u.Roles, Role{SOPClass: text(uid), SCU: rest[0] != 0, SCP: rest[1] != 0})
	case itemExtended:
		uid, rest, err := cutCounted(it.Data)
		if err != nil {
			return err
		}
		u.Extended = append(u.Extended, Extended{SOPClass: text(uid), Info: rest})
	case itemUserIdentity:
		if len(it.Data) < 2 {
			return invalid("the user identity item is cut off")
		}
		primary, rest, err := cutCounted(it.Data[2:])
		if err != nil {
			return err
		}
		secondary, _, err := cutCounted(rest)
		if err != nil {
			return err
		}
		u.Identity = &UserIdentity{Type: it.Data[0], ResponseRequested: it.Data[1] != 0, Primary: primary, Secondary: secondary}
	case itemUserIdentityResp:
		response, _, err := cutCounted(it.Data)
		if err != nil {
			return err
		}
		u.IdentityResponse = response
	default:
		u.Unknown = append(u.Unknown, it)
	}
	return nil
}

func (e *encoder) userInfo(u *UserInfo) {
	e.item(itemUserInformation, func() {
		e.item(itemMaxLength, func() { e.b = binary.BigEndian.AppendUint32(e.b, u.MaxLength) })
		if u.ImplementationClass != "" {
			e.text(itemClassUID, u.ImplementationClass)
		}
		if u.Async != nil {
			e.item(itemAsyncWindow, func() {
				e.b = binary.BigEndian.AppendUint16(e.b, u.Async.Invoked)
				e.b = binary.BigEndian.AppendUint16(e.b, u.Async.Performed)
			})
		}
		for _, r := range u.Roles {
			e.item(itemRole, func() {
				e.counted([]byte(r.SOPClass))
				e.b = append(e.b, bit(r.SCU), bit(r.SCP))
			})
		}
		if u.ImplementationVersion != "" {
			e.text(itemVersionName, u.ImplementationVersion)
		}
		for _, x := range u.Extended {
			e.item(itemExtended, func() {
				e.counted([]byte(x.SOPClass))
				e.b = append(e.b, x.Info...)
			})
		}
		if id := u.Identity; id != nil {
			e.item(itemUserIdentity, func() {
				e.b = append(e.b, id.Type, bit(id.ResponseRequested))
				e.counted(id.Primary)
				e.counted(id.Secondary)
			})
		}
		if u.IdentityResponse != nil {
			e.item(itemUserIdentityResp, func() { e.counted(u.IdentityResponse) })
		}
		for _, it := range u.Unknown {
			e.bytes(it.Type, it.Data)
		}
	})
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
