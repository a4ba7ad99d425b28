package state_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestArchivesAreSaved(t *testing.T) {
	d := open(t)
	none, err := d.Archives()
	if err != nil || len(none) != 0 {
		t.Errorf("a new box knows %v, %v", none, err)
	}
	want := map[string]json.RawMessage{"pacs": json.RawMessage(`{"a":1}`)}
	if err := d.SaveArchives(want); err != nil {
		t.Fatal(err)
	}
	got, err := d.Archives()
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]int
	if err := json.Unmarshal(got["pacs"], &doc); err != nil || len(got) != 1 {
		t.Fatal(err, got)
	}
	if diff := cmp.Diff(map[string]int{"a": 1}, doc); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(d.Path("archives.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Archives(); err == nil {
		t.Error("a damaged file was read")
	}
}
