package main

// The evidence of a bundle, checked by code that shares nothing with linetally: checkpoint and quorum, every record's form
// and signature, the chains, enrolment, rotation and revocation, and every inclusion proof (golang.org/x/mod/sumdb).
// It does not compute figures: report.json, views and manifest are not read.

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// bundleRequest names a bundle, whom to trust, and mutants of it: each a list of [offset, byte].
type bundleRequest struct {
	Zip       []byte
	Log       string
	Root      string // the root key's vkey
	Witnesses []string
	Quorum    int
	Mutants   [][][2]int
}

// checkBundles judges each mutant, in order: "" for a bundle whose evidence holds, else why not.
func checkBundles(r bundleRequest) []string {
	answers := make([]string, len(r.Mutants))
	var group sync.WaitGroup
	next := make(chan int)
	for range runtime.NumCPU() {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range next {
				data := bytes.Clone(r.Zip)
				for _, patch := range r.Mutants[i] {
					data[patch[0]] = byte(patch[1])
				}
				if err := checkEvidence(data, r); err != nil {
					answers[i] = err.Error()
				}
			}
		}()
	}
	for i := range r.Mutants {
		next <- i
	}
	close(next)
	group.Wait()
	return answers
}

// record is one COSE_Sign1 message of the one form.
type record struct {
	raw, protected, payload, signature []byte
	kid, issuer, subject               string
	sequence                           uint64
	previous                           []byte
	kind                               string
	body                               any
}

type gateway struct {
	id      string
	key     ed25519.PublicKey
	revoked uint64 // the first log index from which nothing counts
}

const never = ^uint64(0)

func checkEvidence(data []byte, r bundleRequest) error {
	files, err := unzip(data)
	if err != nil {
		return err
	}
	tree, err := checkCheckpoint(files["checkpoint"], r)
	if err != nil {
		return err
	}
	at := prover{files, tree}
	_, rootKey, err := vkey(r.Root)
	if err != nil {
		return err
	}
	gateways, err := checkRoot(files["root.cbor-seq"], rootKey, at)
	if err != nil {
		return err
	}
	for name, content := range files {
		if strings.HasPrefix(name, "records/") {
			if err := checkChain(strings.TrimSuffix(name[8:], ".cbor-seq"), content, gateways, at); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func unzip(data []byte) (map[string][]byte, error) {
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, file := range archive.File {
		reader, err := file.Open()
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(reader) // checks the CRC
		if err != nil {
			return nil, err
		}
		if _, twice := files[file.Name]; twice || file.Method != zip.Store {
			return nil, fmt.Errorf("%s twice or compressed", file.Name)
		}
		files[file.Name] = content
	}
	return files, nil
}

// checkCheckpoint opens the note with the log's key and every witness's; c2sp.org/tlog-policy with one group.
func checkCheckpoint(signed []byte, r bundleRequest) (tlog.Tree, error) {
	log, err := note.NewVerifier(r.Log)
	if err != nil {
		return tlog.Tree{}, err
	}
	known := []note.Verifier{log}
	for _, each := range r.Witnesses {
		known = append(known, cosignatureVerifier(each))
	}
	opened, err := note.Open(signed, note.VerifierList(known...))
	if err != nil {
		return tlog.Tree{}, err
	}
	// note.Open lets the unused bits at the end of a signature's base64 be anything: one signature has one form here.
	for _, signature := range opened.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(signature.Base64); err != nil {
			return tlog.Tree{}, err
		}
	}
	cosigned, byLog := map[string]bool{}, false
	for _, signature := range opened.Sigs {
		if signature.Name == log.Name() && signature.Hash == log.KeyHash() {
			byLog = true
		} else {
			cosigned[signature.Name] = true
		}
	}
	if !byLog || len(cosigned) < r.Quorum {
		return tlog.Tree{}, errors.New("not signed by the log, or without the quorum")
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != log.Name() {
		return tlog.Tree{}, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, errors.New("a strange size")
	}
	root, err := tlog.ParseHash(lines[2])
	if err == nil && root.String() != lines[2] {
		err = errors.New("a root in another form")
	}
	return tlog.Tree{N: size, Hash: root}, err
}

// prover finds and checks the proofs of a bundle, which are all at its own checkpoint.
type prover struct {
	files map[string][]byte
	tree  tlog.Tree
}

// index is the record's place in the log; -1 where the bundle has no proof of it.
func (p prover) index(r record) (int64, error) {
	text, found := p.files[fmt.Sprintf("proofs/%x/%d.tlog-proof", r.kid, r.sequence)]
	if !found {
		return -1, nil
	}
	head, signed, found := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || len(lines) < 2 || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		return -1, errors.New("not a proof")
	}
	if signed != string(p.files["checkpoint"]) {
		return -1, errors.New("the proof is at another checkpoint")
	}
	digits := strings.TrimPrefix(lines[1], "index ")
	index, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(index, 10) != digits || index < 0 || index >= p.tree.N {
		return -1, errors.New("a strange index")
	}
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		each, err := tlog.ParseHash(line)
		if err != nil || each.String() != line {
			return -1, errors.New("a strange hash")
		}
		proof = append(proof, each)
	}
	return index, tlog.CheckRecord(proof, p.tree.N, p.tree.Hash, index, tlog.RecordHash(r.raw))
}

// chain walks a file of records: each follows the one before.
func chain(content []byte, visit func(record) error) error {
	var last *record
	for len(content) > 0 {
		r, length, err := parseRecord(content)
		if err != nil {
			return err
		}
		content = content[length:]
		if last != nil {
			hash := sha256.Sum256(last.raw)
			if r.sequence != last.sequence+1 || !bytes.Equal(r.previous, hash[:]) || r.kid != last.kid ||
				r.issuer != last.issuer || r.subject != last.subject {
				return fmt.Errorf("sequence %d does not follow", r.sequence)
			}
		}
		if err := visit(r); err != nil {
			return err
		}
		last = &r
	}
	if last == nil {
		return errors.New("no record")
	}
	return nil
}

func checkRoot(content []byte, key ed25519.PublicKey, at prover) (map[string]gateway, error) {
	gateways := map[string]gateway{}
	kid, first := thumbprint(key)[:8], true
	err := chain(content, func(r record) error {
		if first && r.sequence != 0 {
			return errors.New("the root's chain has no beginning")
		}
		first = false
		if r.kid != string(kid) || !ed25519.Verify(key, sigStructure(r), r.signature) {
			return errors.New("not signed by the root key")
		}
		if index, err := at.index(r); err != nil || index < 0 {
			return fmt.Errorf("root sequence %d is not proven: %v", r.sequence, err)
		}
		body, _ := r.body.(map[any]any)
		id, _ := body[uint64(1)].(string)
		switch r.kind {
		case "enrol":
			public, _ := body[uint64(2)].([]byte)
			gateways[string(thumbprint(public)[:8])] = gateway{id, public, never}
		case "rotate":
			oldKid, _ := body[uint64(2)].([]byte)
			public, _ := body[uint64(3)].([]byte)
			byOld, _ := body[uint64(4)].([]byte)
			byNew, _ := body[uint64(5)].([]byte)
			old, known := gateways[string(oldKid)]
			accepted := append(append([]byte("linetally-rotate-accept-v1\n"), oldKid...), id...)
			if !known || old.id != id || !ed25519.Verify(old.key, append([]byte("linetally-rotate-v1\n"), public...), byOld) ||
				!ed25519.Verify(public, accepted, byNew) {
				return errors.New("a rotation that one of its keys did not sign")
			}
			gateways[string(thumbprint(public)[:8])] = gateway{id, public, never}
		case "revoke":
			oldKid, _ := body[uint64(2)].([]byte)
			from, _ := body[uint64(3)].(uint64)
			old, known := gateways[string(oldKid)]
			if !known || old.id != id {
				return errors.New("a revocation of nobody")
			}
			old.revoked = min(old.revoked, from)
			gateways[string(oldKid)] = old
		case "plan":
		default:
			return fmt.Errorf("the root key signed a record of type %s", r.kind)
		}
		return nil
	})
	return gateways, err
}

func checkChain(name string, content []byte, gateways map[string]gateway, at prover) error {
	kid, err := hex.DecodeString(name)
	if err != nil {
		return err
	}
	from, known := gateways[string(kid)]
	if !known {
		return errors.New("never enrolled")
	}
	proven := false
	err = chain(content, func(r record) error {
		if r.kid != string(kid) || r.issuer != from.id || !ed25519.Verify(from.key, sigStructure(r), r.signature) {
			return fmt.Errorf("sequence %d is not signed by its gateway", r.sequence)
		}
		index, err := at.index(r)
		if err != nil {
			return fmt.Errorf("sequence %d: %w", r.sequence, err)
		}
		proven = index >= 0
		if proven && uint64(index) >= from.revoked {
			return fmt.Errorf("sequence %d: revoked", r.sequence)
		}
		if !proven && r.kind == "config" {
			return errors.New("a configuration without a proof")
		}
		switch r.kind {
		case "enrol", "rotate", "revoke", "plan":
			return errors.New("a gateway plays root")
		}
		return nil
	})
	if err == nil && !proven {
		err = errors.New("the last record is not proven")
	}
	return err
}

// parseRecord reads the COSE_Sign1 message that content begins with; RFC 9052 section 4.2, in the one form.
func parseRecord(content []byte) (record, int, error) {
	var r record
	rest, found := bytes.CutPrefix(content, []byte{0xd2, 0x84})
	if !found {
		return r, 0, errors.New("not a COSE_Sign1 message")
	}
	var parts [4]any
	for i := range parts {
		var err error
		if parts[i], rest, err = decode(rest, 1); err != nil {
			return r, 0, err
		}
	}
	protected, ok := parts[0].([]byte)
	unprotected, okToo := parts[1].(map[any]any)
	payload, okThree := parts[2].([]byte)
	signature, okFour := parts[3].([]byte)
	if !ok || !okToo || !okThree || !okFour || len(unprotected) != 0 || len(signature) != ed25519.SignatureSize {
		return r, 0, errors.New("a COSE_Sign1 message of another form")
	}
	length := len(content) - len(rest)
	r = record{raw: content[:length], protected: protected, payload: payload, signature: signature}
	header, err := decodeMap(protected)
	if err != nil {
		return r, 0, err
	}
	kid, _ := header[uint64(4)].([]byte)
	claims, _ := header[uint64(15)].(map[any]any)
	r.kid = string(kid)
	r.issuer, _ = claims[uint64(1)].(string)
	r.subject, _ = claims[uint64(2)].(string)
	if header[uint64(1)] != int64(-19) || header[uint64(16)] != "application/vnd.linetally.record+cbor" || len(header) != 4 {
		return r, 0, errors.New("another protected header")
	}
	fields, err := decodeMap(payload)
	if err != nil {
		return r, 0, err
	}
	var numbered bool
	r.kind, _ = fields[uint64(2)].(string)
	r.sequence, numbered = fields[uint64(3)].(uint64)
	r.previous, _ = fields[uint64(4)].([]byte)
	r.body = fields[uint64(8)]
	if fields[uint64(1)] != uint64(1) || !numbered || len(r.previous) != 32 || len(fields) != 9 {
		return r, 0, errors.New("another payload")
	}
	return r, length, nil
}

func sigStructure(r record) []byte {
	out := append([]byte{0x84, 0x6a}, "Signature1"...)
	out = append(head(out, 2, uint64(len(r.protected))), r.protected...)
	out = append(out, 0x40)
	return append(head(out, 2, uint64(len(r.payload))), r.payload...)
}

// thumbprint is RFC 9679's of {1: 1, -1: 6, -2: key}.
func thumbprint(key []byte) []byte {
	sum := sha256.Sum256(append([]byte{0xa3, 1, 1, 0x20, 6, 0x21, 0x58, 0x20}, key...))
	return sum[:]
}

// head is RFC 8949 section 3, in the shortest form.
func head(out []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(out, major<<5|byte(n))
	case n < 1<<8:
		return append(out, major<<5|24, byte(n))
	case n < 1<<16:
		return append(out, major<<5|25, byte(n>>8), byte(n))
	case n < 1<<32:
		return append(out, major<<5|26, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	out = append(out, major<<5|27)
	for shift := 56; shift >= 0; shift -= 8 {
		out = append(out, byte(n>>shift))
	}
	return out
}

func decodeMap(data []byte) (map[any]any, error) {
	value, rest, err := decode(data, 16)
	found, ok := value.(map[any]any)
	if err != nil || !ok || len(rest) > 0 {
		return nil, fmt.Errorf("not a map in deterministic CBOR: %v", err)
	}
	return found, nil
}

// decode reads one item of deterministic CBOR (RFC 8949 section 4.2.1) and gives what follows it.
func decode(data []byte, depth int) (any, []byte, error) {
	if len(data) == 0 || depth < 0 {
		return nil, nil, errors.New("CBOR is cut off or too deep")
	}
	major, info := data[0]>>5, data[0]&31
	if major == 7 {
		simple, found := map[byte]any{20: false, 21: true, 22: nil}[info]
		if !found {
			return nil, nil, errors.New("a CBOR value that no record has")
		}
		return simple, data[1:], nil
	}
	n, size := uint64(info), 0
	if info >= 24 && info <= 27 {
		size = 1 << (info - 24)
		if len(data) < 1+size {
			return nil, nil, errors.New("CBOR is cut off")
		}
		n = 0
		for _, b := range data[1 : 1+size] {
			n = n<<8 | uint64(b)
		}
	}
	if !bytes.Equal(head(nil, major, n), data[:1+size]) {
		return nil, nil, errors.New("CBOR in another form than the shortest")
	}
	rest := data[1+size:]
	switch major {
	case 0:
		return n, rest, nil
	case 1:
		return -1 - int64(n), rest, nil
	case 2, 3:
		if n > uint64(len(rest)) {
			return nil, nil, errors.New("CBOR is cut off")
		}
		if major == 3 {
			return string(rest[:n]), rest[n:], nil
		}
		return rest[:n:n], rest[n:], nil
	case 4:
		items := []any{}
		for range n {
			item, after, err := decode(rest, depth-1)
			if err != nil {
				return nil, nil, err
			}
			items, rest = append(items, item), after
		}
		return items, rest, nil
	case 5:
		found, keys := map[any]any{}, []string{}
		for range n {
			key, after, err := decode(rest, 0)
			if err != nil {
				return nil, nil, err
			}
			keys = append(keys, string(rest[:len(rest)-len(after)]))
			item, after, err := decode(after, depth-1)
			if err != nil {
				return nil, nil, err
			}
			switch key.(type) {
			case uint64, int64, string:
				found[key] = item
			default:
				return nil, nil, errors.New("a CBOR map with a strange key")
			}
			rest = after
		}
		if !sort.StringsAreSorted(keys) || uint64(len(found)) != n {
			return nil, nil, errors.New("a CBOR map out of order, or with a key twice")
		}
		return found, rest, nil
	}
	return nil, nil, errors.New("a CBOR tag")
}
