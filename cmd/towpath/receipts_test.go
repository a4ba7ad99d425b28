package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/towpath/towpath/gateway/receipts"
	"github.com/towpath/towpath/gateway/state"
	"github.com/towpath/towpath/proxy/dicom"
)

func TestReceiptsOfAStoppedBox(t *testing.T) {
	dir, files := t.TempDir(), t.TempDir()
	run := func(arg ...string) (string, error) {
		app := newApp()
		var out bytes.Buffer
		app.Writer = &out
		err := app.RunContext(t.Context(), permute(app, append(append([]string{"towpath", "receipts"}, arg...), "--state", dir)))
		return out.String(), err
	}
	if _, err := run("list"); err == nil || !strings.Contains(err.Error(), "no receipts") {
		t.Errorf("a box without: %v", err)
	}
	d, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := d.ReceiptsKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.ReceiptsKey()
	if err != nil || !bytes.Equal(key, again) || len(key) != receipts.KeySize {
		t.Fatalf("the key changes: %v", err)
	}
	j, err := receipts.Open(d.Path(state.ReceiptsDir), key, receipts.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"the data set", "MSH|", "third"} {
		sum := sha256.Sum256([]byte(content))
		e := receipts.Entry{At: time.Unix(9, 0), Taken: time.Unix(8, 0), Queue: "dicom." + content[:3], Item: content[:2], SHA256: hex.EncodeToString(sum[:]), Code: "0000", Peer: "PACS"}
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) string {
		t.Helper()
		name = filepath.Join(files, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	head := dicom.Part10Meta{TransferSyntax: "1.2.840.10008.1.2.1", SOPClass: "1.2.840.10008.5.1.4.1.1.2", SOPInstance: "1.2.3"}
	object := write("object.dcm", string(head.AppendPart10(nil))+"the data set")
	message, other := write("message", "MSH|"), write("other", "something else")

	out, err := run("list", "--limit", "2")
	if err != nil || strings.Contains(out, "dicom.the") || !strings.Contains(out, "dicom.MSH") || !strings.Contains(out, "PACS") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = run("list", "--queue", "dicom.the", "--json")
	var list []receipts.Entry
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list) != 1 || list[0].Seq != 1 {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = run("verify", object, message, "--json")
	var check receiptCheck
	if err != nil || json.Unmarshal([]byte(out), &check) != nil || check.Receipts != 3 || check.Files[0].Receipt.Seq != 1 || check.Files[1].Receipt.Seq != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = run("verify", "--last", check.Files[0].Receipt.Hash); err != nil || !strings.Contains(out, "The chain holds") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = run("verify", other); err == nil || !strings.Contains(out, "other: no receipt") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = run("verify", "--last", strings.Repeat("0", 64)); err == nil || !strings.Contains(out, "CUT OFF") && !strings.Contains(out, "cut off") {
		t.Errorf("%v\n%s", err, out)
	}
	export := filepath.Join(files, "export")
	if _, err = run("export", "--out", export); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(export)
	if err != nil || bytes.Count(text, []byte("\n")) != 3 || !strings.Contains(string(text), list[0].SHA256) {
		t.Errorf("%v\n%s", err, text)
	}
	if _, err = run("export", "--out", export); err == nil {
		t.Error("an export went over a file that was there")
	}
	names, err := filepath.Glob(filepath.Join(dir, state.ReceiptsDir, "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	content, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(names[0], bytes.Replace(content, []byte("PACS"), []byte("pacs"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err = run("verify"); err == nil || !strings.Contains(out, "BROKEN") {
		t.Errorf("%v\n%s", err, out)
	}
}
