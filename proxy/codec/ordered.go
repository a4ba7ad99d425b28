package codec

// slot is a block on its way through the steps. Its buffers are used again for a later block.
type slot struct {
	in, out []byte
	faulty  bool
	err     error
}

// steps are what is done with each block. prepare (which may be nil) and finish run one at a time and in order, work runs beside them.
type steps struct {
	prepare func(*slot) error
	work    func(*slot, int) error
	finish  func(*slot) error
}

// ordered takes n blocks through their steps, as many at a time as there are workers. It returns the first error, when nothing runs any
// more.
func (c *Codec) ordered(n int, s steps) error {
	width := min(cap(c.idle), n)
	running := make(chan (chan *slot), width) // in order
	begin := func(b *slot, i int) error {
		if s.prepare != nil {
			if err := s.prepare(b); err != nil {
				return err
			}
		}
		done := make(chan *slot, 1)
		running <- done
		go func() {
			b.err = s.work(b, i)
			done <- b
		}()
		return nil
	}
	var failed error
	begun := 0
	for ; begun < width && failed == nil; begun++ {
		failed = begin(&slot{}, begun)
	}
	for len(running) > 0 {
		b := <-<-running
		if failed == nil {
			failed = b.err
		}
		if failed == nil {
			failed = s.finish(b)
		}
		if failed == nil && begun < n {
			failed = begin(b, begun)
			begun++
		}
	}
	return failed
}
