// Package poll fetches new studies from an archive that cannot send them itself: it asks at intervals which studies there are, waits until
// a study has stopped growing, fetches what is missing of it, and can say of every study whether all that was found was fetched.
//
// The archive is a Source; dicom.Querier makes one. What the Poller knows is in a journal on disk, so that a restart neither repeats nor leaves out
// anything. The journal holds UIDs, which identify patients' studies: it stays beside the queue, and nothing of it is logged.
package poll
