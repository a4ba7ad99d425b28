package hl7

// FolderKey is what the unfinished file of a message is known by.
func FolderKey(dir string, msg []byte) string {
	h, err := ParseHeader(msg)
	if err != nil {
		return ""
	}
	return fileIdentity(identify("folder."+dir, h, msg))
}
