package dicom_test
import ("testing";"path/filepath"; "github.com/towpath/towpath/proxy/dicom")
func TestDbg(t *testing.T){
	archive, _ := newArchive(t, dicom.ArchiveConfig{})
	address, results := serve(t, loopback{}, archive)
	var objects []dicom.Object
	for _, f := range samples(t) { objects = append(objects, dicom.FileObject(f)) }
	rep, err := dicom.Store(t.Context(), dicom.StoreConfig{Network: loopback{}, Target: address, CalledAE: "ANY"}, objects, func(e dicom.StoreEvent){ if e.Err != nil { t.Log(filepath.Base(e.Name), e.Err)}})
	t.Log(rep, err)
	t.Log(<-results)
}
