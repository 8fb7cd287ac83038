package wire

import "sync"

// BufferLen is the length of a pooled buffer in bytes: most statements and
// most answers fit into one.
const BufferLen = 16 << 10

// Buffer is a pooled buffer. It belongs to its holder from GetBuffer to Free.
type Buffer [BufferLen]byte

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// GetBuffer takes a buffer with arbitrary content.
func GetBuffer() *Buffer { return buffers.Get().(*Buffer) }

// Free gives the buffer back.
func (b *Buffer) Free() { buffers.Put(b) }
