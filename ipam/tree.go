package ipam

// insert takes b once more below n, which may be nil, and returns the node to stand in n's place.
func (n *node) insert(b block) *node {
	if n == nil {
		return &node{block: b, count: 1}
	}
	switch c := common(n.block, b); {
	case c == n.bits && c == b.bits:
		n.count++
	case c == n.bits:
		side := b.bit(c)
		n.child[side] = n.child[side].insert(b)
	case c == b.bits:
		up := &node{block: b, count: 1}
		up.child[n.bit(c)] = n
		n = up
	default:
		up := &node{block: b.truncate(c)}
		up.child[b.bit(c)] = &node{block: b, count: 1}
		up.child[n.bit(c)] = n
		n = up
	}
	n.sum()
	return n
}

// find returns the node of exactly b, or nil.
func (n *node) find(b block) *node {
	for n != nil && common(n.block, b) == n.bits {
		if n.bits == b.bits {
			return n
		}
		n = n.child[b.bit(n.bits)]
	}
	return nil
}

// remove undoes one insert of b, which must be there, and keeps n.
func (n *node) remove(b block) {
	if n.bits == b.bits {
		n.count--
	} else {
		side := b.bit(n.bits)
		c := n.child[side]
		c.remove(b)
		n.child[side] = c.collapsed()
	}
	n.sum()
}

// collapsed returns what stands for n when it may be needless: itself, its only child, or nothing.
func (n *node) collapsed() *node {
	switch {
	case n.count > 0, n.child[0] != nil && n.child[1] != nil:
		return n
	case n.child[0] != nil:
		return n.child[0]
	}
	return n.child[1]
}

// sum computes free from the children.
func (n *node) sum() {
	n.free = lengths{}
	if n.count > 0 {
		return
	}
	if n.child[0] == nil && n.child[1] == nil {
		n.free.add(n.bits)
		return
	}
	for _, c := range n.child {
		if c == nil {
			n.free.add(n.bits + 1)
			continue
		}
		// Along the edge down to c, the other half is free at every step.
		n.free.addRange(n.bits+2, c.bits)
		n.free.addAll(c.free)
	}
}

// lowest returns the maximal free block of length l with the lowest address; n.free must have l.
func (n *node) lowest(l int) block {
	if n.bits == l {
		return n.block
	}
	for {
		for side, c := range n.child {
			if c == nil {
				if l == n.bits+1 {
					return n.half(side)
				}
				continue
			}
			if n.bits+2 <= l && l <= c.bits {
				return c.sibling(l)
			}
			if c.free.has(l) {
				n = c
				break
			}
		}
	}
}

// either returns a child, nil for a leaf.
func (n *node) either() *node {
	if n.child[0] != nil {
		return n.child[0]
	}
	return n.child[1]
}

// walk yields the maximal free blocks by address.
func (n *node) walk(yield func(block) bool) bool {
	if n.count > 0 {
		return true
	}
	if n.child[0] == nil && n.child[1] == nil {
		return yield(n.block)
	}
	for side, c := range n.child {
		if c == nil {
			if !yield(n.half(side)) {
				return false
			}
			continue
		}
		for l := n.bits + 2; l <= c.bits; l++ {
			if c.bit(l-1) == 1 && !yield(c.sibling(l)) {
				return false
			}
		}
		if !c.walk(yield) {
			return false
		}
		for l := c.bits; l >= n.bits+2; l-- {
			if c.bit(l-1) == 0 && !yield(c.sibling(l)) {
				return false
			}
		}
	}
	return true
}

// each yields the nodes from n on that are taken, by address, wide before narrow.
func (n *node) each(yield func(*node) bool) bool {
	if n == nil {
		return true
	}
	return (n.count == 0 || yield(n)) && n.child[0].each(yield) && n.child[1].each(yield)
}
