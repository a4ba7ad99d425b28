package adminapi

import (
	"slices"
	"strings"

	"github.com/towpath/towpath/provisioning/wire"
)

// Poll says how a gateway fetches new studies from an archive of its site.
type Poll struct {
	Target     string   `json:"target" doc:"host:port of the archive on the site's LAN" example:"192.168.1.20:104"`
	CalledAE   string   `json:"called_ae" doc:"AE title of the archive" example:"PACS"`
	CallingAE  string   `json:"calling_ae,omitempty" doc:"the gateway's own AE title towards it; the service's if absent"`
	Move       bool     `json:"move,omitempty" doc:"fetch by C-MOVE to the service's AE title, which the archive must know, instead of C-GET"`
	Since      string   `json:"since" doc:"day of the oldest studies to be fetched" example:"2026-11-22"`
	Every      int      `json:"every,omitempty" doc:"seconds between two questions; 900 if absent"`
	Overlap    int      `json:"overlap,omitempty" doc:"seconds that each looks back behind the end of the last; three days if absent"`
	Settle     int      `json:"settle,omitempty" doc:"seconds that a study must not have changed; 600 if absent"`
	Hours      string   `json:"hours,omitempty" doc:"when studies may be fetched, in the gateway's local time; always if absent" example:"22:00-06:00"`
	Modalities []string `json:"modalities,omitempty" nullable:"false" doc:"fetch studies that have one of these only; all if absent" example:"CT"`
}

type pollInput struct {
	Service string `path:"service" maxLength:"64" doc:"name or id"`
	Site    string `path:"site" maxLength:"64" doc:"name or id"`
	Body    Poll
}

func pollView(o wire.PollOptions) *Poll {
	if o == (wire.PollOptions{}) {
		return nil
	}
	return &Poll{
		Target: o.Target, CalledAE: o.CalledAE, CallingAE: o.CallingAE, Move: o.Move, Since: o.Since, Every: o.Every, Overlap: o.Overlap,
		Settle: o.Settle, Hours: o.Hours, Modalities: o.ModalityList(),
	}
}

func (v Poll) options() wire.PollOptions {
	modalities := slices.Compact(slices.Sorted(slices.Values(v.Modalities)))
	return wire.PollOptions{
		Target: v.Target, CalledAE: v.CalledAE, CallingAE: v.CallingAE, Move: v.Move, Since: v.Since, Every: v.Every, Overlap: v.Overlap,
		Settle: v.Settle, Hours: v.Hours, Modalities: strings.Join(modalities, ","),
	}
}
