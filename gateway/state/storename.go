package state

// StoreName is where keys are kept that are written from now on: FileStore, or the name of the key store.
func (d *Dir) StoreName() string {
	if d.sealer == nil {
		return FileStore
	}
	return d.sealer.Name()
}
