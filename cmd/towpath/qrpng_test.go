package main

import (
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rsc.io/qr"
)

// TestQRPNG compares the picture with the drawing on the terminal's code, module by module, and looks at who may read it.
func TestQRPNG(t *testing.T) {
	text := "enr1-" + strings.Repeat("abcdefgh-", 20)
	path := filepath.Join(t.TempDir(), "token.png")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeQRPNG(path, text); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", st.Mode(), err)
	}
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	const quiet = 4 // modules, ISO/IEC 18004 §5.3.8
	scale := img.Bounds().Dx() / (code.Size + 2*quiet)
	if img.Bounds().Dx() != img.Bounds().Dy() || scale < 4 || scale*(code.Size+2*quiet) != img.Bounds().Dx() {
		t.Fatalf("the picture is %v for %d modules", img.Bounds(), code.Size)
	}
	dark := 0
	for y := -quiet; y < code.Size+quiet; y++ {
		for x := -quiet; x < code.Size+quiet; x++ {
			g := color.GrayModel.Convert(img.At((x+quiet)*scale+scale/2, (y+quiet)*scale+scale/2)).(color.Gray)
			if (g.Y < 128) != code.Black(x, y) {
				t.Fatalf("module %d,%d is wrong", x, y)
			}
			if g.Y < 128 {
				dark++
			}
		}
	}
	if dark < code.Size*code.Size/4 {
		t.Errorf("only %d of %d modules are dark", dark, code.Size*code.Size)
	}
	if err := writeQRPNG(filepath.Join(t.TempDir(), "nowhere", "token.png"), text); err == nil {
		t.Error("a file in no directory was written")
	}
}
