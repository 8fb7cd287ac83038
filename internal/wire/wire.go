// Package wire is the MySQL client/server protocol as bytes: packet headers,
// the boundaries of an answer, OK, ERR and EOF packets, session tracking, and
// the socket calls that move them.
//
// It holds no policy and knows no server, session or statement; it never
// decodes rows. Sources: MySQL Internals Manual, "Client/Server Protocol", and
// the MariaDB knowledge base, "Client/Server Protocol".
package wire

// HeaderLen is the length of a packet's header: three bytes of payload length,
// little endian, and the sequence number.
const HeaderLen = 4

// MaxPayload is the payload of a frame that is continued by another frame.
const MaxPayload = 1<<24 - 1

// Capability flags of both sides, as in the handshake (Protocol::CapabilityFlags).
const (
	ClientLongPassword     uint32 = 1 << 0
	ClientFoundRows        uint32 = 1 << 1
	ClientLongFlag         uint32 = 1 << 2
	ClientConnectWithDB    uint32 = 1 << 3
	ClientLocalFiles       uint32 = 1 << 7
	ClientIgnoreSpace      uint32 = 1 << 8
	ClientProtocol41       uint32 = 1 << 9
	ClientInteractive      uint32 = 1 << 10
	ClientTransactions     uint32 = 1 << 13
	ClientSecureConnection uint32 = 1 << 15
	ClientMultiStatements  uint32 = 1 << 16
	ClientMultiResults     uint32 = 1 << 17
	ClientPSMultiResults   uint32 = 1 << 18
	ClientPluginAuth       uint32 = 1 << 19
	ClientConnectAttrs     uint32 = 1 << 20
	ClientSessionTrack     uint32 = 1 << 23
	ClientDeprecateEOF     uint32 = 1 << 24
)

// Server status flags, in OK and EOF packets.
const (
	StatusInTrans         uint16 = 0x0001
	StatusAutocommit      uint16 = 0x0002
	StatusMoreResults     uint16 = 0x0008
	StatusCursorExists    uint16 = 0x0040
	StatusLastRowSent     uint16 = 0x0080
	StatusNoBackslash     uint16 = 0x0200
	StatusInTransReadOnly uint16 = 0x2000
	StatusStateChanged    uint16 = 0x4000
)

// Command bytes: the first byte of a client's packet.
const (
	ComQuit             byte = 0x01
	ComInitDB           byte = 0x02
	ComQuery            byte = 0x03
	ComFieldList        byte = 0x04
	ComRefresh          byte = 0x07
	ComStatistics       byte = 0x09
	ComProcessInfo      byte = 0x0a
	ComProcessKill      byte = 0x0c
	ComDebug            byte = 0x0d
	ComPing             byte = 0x0e
	ComChangeUser       byte = 0x11
	ComBinlogDump       byte = 0x12
	ComTableDump        byte = 0x13
	ComRegisterSlave    byte = 0x15
	ComStmtPrepare      byte = 0x16
	ComStmtExecute      byte = 0x17
	ComStmtSendLongData byte = 0x18
	ComStmtClose        byte = 0x19
	ComStmtReset        byte = 0x1a
	ComSetOption        byte = 0x1b
	ComStmtFetch        byte = 0x1c
	ComBinlogDumpGTID   byte = 0x1e
	ComResetConnection  byte = 0x1f
)

// First bytes of answer packets.
const (
	headOK     byte = 0x00
	headInfile byte = 0xfb
	headEOF    byte = 0xfe
	headErr    byte = 0xff
)

// PayloadLen returns the payload length that the header b names.
func PayloadLen(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// PutHeader writes a header for n bytes of payload, 0 to MaxPayload.
func PutHeader(b []byte, n int, seq byte) {
	_ = b[3]
	b[0], b[1], b[2], b[3] = byte(n), byte(n>>8), byte(n>>16), seq
}

// AppendPacket appends payload as one packet, or as several frames where it is
// MaxPayload or longer, the first with sequence number seq. It returns the
// buffer and the sequence number after the last frame.
func AppendPacket(b []byte, seq byte, payload []byte) ([]byte, byte) {
	for {
		n := min(len(payload), MaxPayload)
		b = append(b, byte(n), byte(n>>8), byte(n>>16), seq)
		b = append(b, payload[:n]...)
		payload = payload[n:]
		seq++
		if n < MaxPayload {
			return b, seq
		}
	}
}
