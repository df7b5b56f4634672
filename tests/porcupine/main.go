// A second opinion on registers that only grow: porcupine searches for a linearization of every key.
//
// It reads histories exported by `stalewatch history export --format json`, one file a line of standard input, and
// prints for each a line of JSON: the keys that are not linearizable, and those for which the search took too long.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"syscall"
	"time"

	"github.com/anishathalye/porcupine"
)

const timeout = 60 * time.Second

type input struct {
	Op      string `json:"op"`
	Key     string `json:"key"`
	Version *int   `json:"version"`
}

type output struct {
	Outcome string `json:"outcome"`
	Version *int   `json:"version"`
}

type line struct {
	ClientId int
	Input    input
	Call     int64
	Output   output
	Return   *int64
}

// A write raises the register, and never lowers it; a read shows the maximum of what was written.
var maxRegister = porcupine.Model{
	Init: func() interface{} { return 0 },
	Step: func(state, in, out interface{}) (bool, interface{}) {
		version := *in.(input).Version
		if in.(input).Op == "read" {
			return state.(int) == version, state
		}
		if version > state.(int) {
			return true, version
		}
		return true, state
	},
}

type verdict struct {
	File     string   `json:"file"`
	Keys     int      `json:"keys"`
	Illegal  []string `json:"illegal"`
	TimedOut []string `json:"timed_out"`
	Cpu      float64  `json:"cpu_s"` // of the checks alone, without reading
}

// operation returns what porcupine has to place, and false for what proves nothing: reads without an answer, and writes
// that certainly failed. An unknown write may take effect at any time after its call, or never: at the end of all time
// no read sees it.
func operation(l line) (porcupine.Operation, bool) {
	op := porcupine.Operation{ClientId: l.ClientId, Input: l.Input, Call: l.Call, Output: l.Output, Return: math.MaxInt64}
	switch {
	case l.Input.Op == "read" && l.Output.Outcome == "ok" && l.Output.Version != nil:
		op.Input = input{Op: "read", Key: l.Input.Key, Version: l.Output.Version}
	case l.Input.Op == "write" && l.Output.Outcome != "fail" && l.Input.Version != nil:
	default:
		return op, false
	}
	if l.Output.Outcome == "ok" && l.Return != nil {
		op.Return = *l.Return
	}
	return op, true
}

func read(path string) (map[string][]porcupine.Operation, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	keys := map[string][]porcupine.Operation{}
	decoder := json.NewDecoder(bufio.NewReader(file))
	for decoder.More() {
		var l line
		if err := decoder.Decode(&l); err != nil {
			return nil, err
		}
		if op, matters := operation(l); matters {
			keys[l.Input.Key] = append(keys[l.Input.Key], op)
		}
	}
	return keys, nil
}

func judge(path string) (verdict, error) {
	keys, err := read(path)
	found := verdict{File: path, Keys: len(keys), Illegal: []string{}, TimedOut: []string{}}
	begin := cpu()
	for key, operations := range keys {
		switch porcupine.CheckOperationsTimeout(maxRegister, operations, timeout) {
		case porcupine.Illegal:
			found.Illegal = append(found.Illegal, key)
		case porcupine.Unknown:
			found.TimedOut = append(found.TimedOut, key)
		}
	}
	found.Cpu = cpu() - begin
	return found, err
}

func cpu() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	verdicts := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		found, err := judge(lines.Text())
		if err == nil {
			err = verdicts.Encode(found)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, lines.Text()+":", err)
			os.Exit(1)
		}
	}
}
