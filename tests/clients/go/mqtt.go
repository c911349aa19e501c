package main

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// version is a version of MQTT, as it stands in the names of checks.
type version string

const (
	v31  version = "v3.1"
	v311 version = "v3.1.1"
	v5   version = "v5"
)

var versions = []version{v31, v311, v5}

// mqttChecks are those of the Eclipse Foundation's two clients: paho.mqtt.golang for 3.1 and 3.1.1, paho.golang for 5.
func mqttChecks() []check {
	checks := []check{}
	for _, each := range mqttForEach {
		for _, v := range versions {
			checks = append(checks, check{name: each.name + "-" + string(v), run: onMQTT(v, each.run)})
		}
	}
	for _, each := range mqttForV5 {
		checks = append(checks, check{name: each.name, run: onMQTT(v5, each.run)})
	}
	restart := func(*session) { mqttRestart() }
	return append(checks, check{name: "restart-keeps-sessions-and-retained", run: restart, time: 60 * time.Second})
}

type mqttCheck struct {
	name string
	run  func(*mqttSession)
}

func onMQTT(v version, run func(*mqttSession)) func(*session) {
	return func(*session) {
		s := newMQTTSession(v)
		defer s.close()
		run(s)
	}
}

func mqttURI() *url.URL {
	uri := os.Getenv("MQTT_URI")
	if uri == "" {
		fail("MQTT_URI is not set, e.g. mqtt://guest:guest@127.0.0.1:1883")
	}
	return must(url.Parse(uri))
}

func mqttDial() net.Conn { return must(net.DialTimeout("tcp", mqttURI().Host, eventTime)) }

func newTopic() string { return strings.ReplaceAll(unique("t"), ".", "/") }

// newClientID is one that MQTT 3.1 takes too: at most 23 letters and digits.
func newClientID() string { return strings.ReplaceAll(unique(""), ".", "") }

type mqttMessage struct {
	topic, payload string
	qos            byte
	retained       bool
	properties     properties5
}

type mqttWill struct {
	topic, payload string
	qos            byte
	retained       bool
	properties     *willProperties5 // only version 5 has them
}

// mqttClient is a connected client of either library.
type mqttClient interface {
	id() string
	present() bool
	subscribe(qos byte, filters ...string) []byte
	unsubscribe(filters ...string)
	publish(topic, payload string, qos byte, retained bool)
	messages() <-chan mqttMessage
	lost() <-chan struct{}
	disconnect()
	drop() // ends the connection without a word
}

// mqttSession is one check's clients, and the sessions and topics that it must not leave behind.
type mqttSession struct {
	version  version
	clients  []mqttClient
	kept     []string
	retained []string
}

func newMQTTSession(v version) *mqttSession { return &mqttSession{version: v} }

// mqttOptions say how a client connects; the zero value is a new client whose session ends with it.
type mqttOptions struct {
	id   string
	keep bool // the session stays, and is resumed
	will *mqttWill
	five *options5
}

func (s *mqttSession) connectWith(options mqttOptions) mqttClient {
	if options.id == "" {
		options.id = newClientID()
	}
	if options.keep {
		s.kept = append(s.kept, options.id)
	}
	var client mqttClient
	if s.version == v5 {
		client = connect5(options)
	} else {
		client = connect3(s.version, options)
	}
	s.clients = append(s.clients, client)
	return client
}

func (s *mqttSession) connect() mqttClient { return s.connectWith(mqttOptions{}) }

func (s *mqttSession) keep(id string) mqttClient {
	return s.connectWith(mqttOptions{id: id, keep: true})
}

func (s *mqttSession) listener(qos byte, filters ...string) mqttClient {
	client := s.connect()
	client.subscribe(qos, filters...)
	return client
}

func (s *mqttSession) retain(client mqttClient, topic, payload string) {
	s.retained = append(s.retained, topic)
	client.publish(topic, payload, 1, true)
}

func (s *mqttSession) close() {
	for _, client := range s.clients {
		client.drop()
	}
	for _, id := range s.kept {
		s.connectWith(mqttOptions{id: id}).disconnect()
	}
	if len(s.retained) > 0 {
		cleaner := s.connect()
		for _, topic := range s.retained {
			cleaner.publish(topic, "", 1, true)
		}
		cleaner.disconnect()
	}
}

func expectMessage(client mqttClient, topic, payload string, qos byte, retained bool) mqttMessage {
	message := next(client.messages(), "message")
	got := fmt.Sprintf("%s %q %d %t", message.topic, message.payload, message.qos, message.retained)
	equal(got, fmt.Sprintf("%s %q %d %t", topic, payload, qos, retained), "topic, payload, QoS and retain flag")
	return message
}

func payloads(client mqttClient, count int) []string {
	taken := []string{}
	for len(taken) < count {
		taken = append(taken, next(client.messages(), "message").payload)
	}
	return taken
}
