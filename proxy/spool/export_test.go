package spool

// SmallSegments returns options of a Spool whose journal has segments of n bytes.
func SmallSegments(o Options, n int64) Options {
	o.segmentSize = n
	return o
}
