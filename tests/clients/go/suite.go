package main

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"
)

// The contract between a client suite and the harness that starts it.
//
// A suite prints `ok NAME`, `not ok NAME: reason` or `skip NAME: reason` for each check, then `done`, and exits with 0 if
// and only if nothing failed. It asks for a restart of the broker by printing `@restart`, and waits for `@restarted`.

const (
	suiteTime = 110 * time.Second
	checkTime = 15 * time.Second
	eventTime = 5 * time.Second
)

type check struct {
	name string
	run  func(*session)
	time time.Duration // 0 means checkTime
}

// failure and skipped end a check by panic; everything else that panics is a failure too.
type failure string
type skipped string

func fail(format string, arguments ...any) {
	panic(failure(fmt.Sprintf(format, arguments...)))
}

func equal[V any](actual, expected V, what string) {
	if !reflect.DeepEqual(actual, expected) {
		fail("%s: got %#v, expected %#v", what, actual, expected)
	}
}

func try(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func must[V any](value V, err error) V {
	try(err)
	return value
}

// next waits for one value; a closed channel is a failure.
func next[V any](values <-chan V, what string) V {
	select {
	case value, open := <-values:
		if !open {
			fail("closed while waiting for %s", what)
		}
		return value
	case <-time.After(eventTime):
		fail("no %s within %v", what, eventTime)
	}
	panic("unreachable")
}

// waitUntil polls what the broker does not announce.
func waitUntil(condition func() bool, what string) {
	for end := time.Now().Add(eventTime); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			fail("not within %v: %s", eventTime, what)
		}
	}
}

func restartBroker() {
	fmt.Println("@restart")
	answer, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		panic(skipped("nobody answers @restart on stdin"))
	}
	equal(strings.TrimSpace(answer), "@restarted", "the answer to @restart")
}

func runSuite(checks []check) (failed bool) {
	end := time.Now().Add(suiteTime)
	for _, each := range checks {
		if len(os.Args) > 1 && !contains(os.Args[1:], each.name) {
			continue
		}
		if each.time == 0 {
			each.time = checkTime
		}
		verdict := each.verdict(min(each.time, time.Until(end)))
		failed = failed || strings.HasPrefix(verdict, "not ok")
		fmt.Println(verdict)
	}
	fmt.Println("done")
	return failed
}

func contains(names []string, name string) bool {
	for _, each := range names {
		if each == name {
			return true
		}
	}
	return false
}

func (c check) verdict(limit time.Duration) string {
	if limit <= 0 {
		return fmt.Sprintf("not ok %s: the suite's %v are over", c.name, suiteTime)
	}
	outcome := make(chan string, 1)
	go func() { outcome <- c.attempt() }()
	select {
	case verdict := <-outcome:
		return verdict
	case <-time.After(limit):
		return fmt.Sprintf("not ok %s: no result within %v", c.name, limit)
	}
}

func (c check) attempt() (verdict string) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case skipped:
			verdict = fmt.Sprintf("skip %s: %s", c.name, reason)
		default:
			debug.PrintStack()
			verdict = fmt.Sprintf("not ok %s: %s", c.name, strings.Join(strings.Fields(fmt.Sprint(reason)), " "))
		}
	}()
	s := newSession()
	defer s.close()
	c.run(s)
	return "ok " + c.name
}
