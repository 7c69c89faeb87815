// Checks a linetally log with code that nobody of linetally wrote: golang.org/x/mod/sumdb/note and tlog.
//
// Reads one JSON request from standard input, prints "ok" and what it counted, or the first thing that is wrong. With the
// argument "bundle" it judges the evidence of bundles instead (bundle.go) and prints a JSON list of answers.
package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// request names the log's folder and keys, and what linetally made of it.
type request struct {
	Folder      string
	Vkey        string   // the log's, signature type 0x01
	Witness     string   // a witness's, signature type 0x04
	Cosigned    string   // the checkpoint with a cosignature
	Proofs      []string // tlog-proof texts
	Old         string   // an older checkpoint
	Consistency []string // base64 hashes from Old to the checkpoint
}

const height = 8

func main() {
	if len(os.Args) > 1 && os.Args[1] == "bundle" {
		var asked bundleRequest
		fail(json.NewDecoder(os.Stdin).Decode(&asked))
		fail(json.NewEncoder(os.Stdout).Encode(checkBundles(asked)))
		return
	}
	var r request
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		fail(err)
	}
	verifier, err := note.NewVerifier(r.Vkey)
	fail(err)
	signed, err := os.ReadFile(filepath.Join(r.Folder, "checkpoint"))
	fail(err)
	tree := open(signed, verifier)

	tiles := checkTiles(r.Folder, tree)
	records := checkRecords(r.Folder, tree)
	for _, text := range r.Proofs {
		checkProof(text, verifier, records)
	}
	old := open([]byte(r.Old), verifier)
	var proof tlog.TreeProof
	for _, text := range r.Consistency {
		proof = append(proof, hash(text))
	}
	fail(tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash))
	if got := open([]byte(r.Cosigned), cosignatureVerifier(r.Witness)); got != tree {
		fail(fmt.Errorf("the cosigned tree is %v, not %v", got, tree))
	}
	fmt.Printf("ok: %d entries, %d tiles, %d proofs\n", tree.N, tiles, len(r.Proofs))
}

// open verifies a checkpoint and returns its tree; c2sp.org/tlog-checkpoint, "Note text".
func open(signed []byte, verifier note.Verifier) tlog.Tree {
	n, err := note.Open(signed, note.VerifierList(verifier))
	fail(err)
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		fail(fmt.Errorf("not a checkpoint: %q", n.Text))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	fail(err)
	return tlog.Tree{N: size, Hash: hash(lines[2])}
}

// files serves tiles from the folder; c2sp.org/tlog-tiles leaves out the height that tlog.Tile.Path has.
type files string

func (f files) Height() int { return height }

func (f files) SaveTiles([]tlog.Tile, [][]byte) {}

func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, t := range tiles {
		data, err := os.ReadFile(filepath.Join(string(f), path(t)))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func path(t tlog.Tile) string {
	p := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", height))
	return "tile/" + strings.Replace(p, "data/", "entries/", 1)
}

// checkTiles computes every tile again from the entries and compares the bytes.
func checkTiles(folder string, tree tlog.Tree) int {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	for n, entry := range entries(folder, tree.N) {
		hashes, err := tlog.StoredHashes(int64(n), entry, reader)
		fail(err)
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(tree.N, reader)
	fail(err)
	if root != tree.Hash {
		fail(fmt.Errorf("the entries have the root %v, the checkpoint says %v", root, tree.Hash))
	}
	tiles := tlog.NewTiles(height, 0, tree.N)
	for _, t := range tiles {
		want, err := tlog.ReadTileData(t, reader)
		fail(err)
		got, err := os.ReadFile(filepath.Join(folder, path(t)))
		fail(err)
		if !bytes.Equal(got, want) {
			fail(fmt.Errorf("%s is not the tile of these entries", path(t)))
		}
	}
	return len(tiles)
}

// entries reads every bundle: entries with a big-endian uint16 length.
func entries(folder string, size int64) [][]byte {
	var all [][]byte
	for n := int64(0); n*256 < size; n++ {
		t := tlog.Tile{H: height, L: -1, N: n, W: int(min(256, size-n*256))}
		data, err := os.ReadFile(filepath.Join(folder, path(t)))
		fail(err)
		for len(data) > 0 {
			end := 2 + int(binary.BigEndian.Uint16(data))
			all = append(all, data[2:end])
			data = data[end:]
		}
	}
	if int64(len(all)) != size {
		fail(fmt.Errorf("the bundles hold %d entries, the checkpoint says %d", len(all), size))
	}
	return all
}

// checkRecords proves each record through the tiles alone, which TileHashReader authenticates against the root.
func checkRecords(folder string, tree tlog.Tree) [][]byte {
	reader := tlog.TileHashReader(tree, files(folder))
	records := entries(folder, tree.N)
	for n := int64(0); n < tree.N; n += 1 + tree.N/500 {
		proof, err := tlog.ProveRecord(tree.N, n, reader)
		fail(err)
		fail(tlog.CheckRecord(proof, tree.N, tree.Hash, n, tlog.RecordHash(records[n])))
	}
	return records
}

// checkProof checks a proof that linetally made; c2sp.org/tlog-proof, "Format".
func checkProof(text string, verifier note.Verifier, records [][]byte) {
	head, signed, found := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	if !found || lines[0] != "c2sp.org/tlog-proof@v1" || !strings.HasPrefix(lines[1], "index ") {
		fail(fmt.Errorf("not a proof: %q", head))
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[1], "index "), 10, 64)
	fail(err)
	var proof tlog.RecordProof
	for _, line := range lines[2:] {
		proof = append(proof, hash(line))
	}
	tree := open([]byte(signed), verifier)
	fail(tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(records[index])))
}

// cosigner verifies c2sp.org/tlog-cosignature, "Ed25519 signed message".
type cosigner struct {
	name string
	id   uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.id }

func (c cosigner) Verify(text, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), text)
	return ed25519.Verify(c.key, []byte(message), sig[8:])
}

func cosignatureVerifier(text string) note.Verifier {
	kind, key, err := vkey(text)
	fail(err)
	if kind != 0x04 {
		fail(fmt.Errorf("not a witness's key: %s", text))
	}
	parts := strings.SplitN(text, "+", 3)
	id, err := strconv.ParseUint(parts[1], 16, 32)
	fail(err)
	return cosigner{parts[0], uint32(id), key}
}

// vkey reads the type and the Ed25519 key of a vkey.
func vkey(text string) (byte, ed25519.PublicKey, error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 {
		return 0, nil, fmt.Errorf("not a key: %s", text)
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize {
		return 0, nil, fmt.Errorf("not a key: %s", text)
	}
	return key[0], key[1:], nil
}

func hash(text string) tlog.Hash {
	h, err := tlog.ParseHash(text)
	fail(err)
	return h
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
