package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	paho5 "github.com/eclipse/paho.golang/paho"
)

// mqttForEach are the checks that run in every version.
var mqttForEach = []mqttCheck{
	{"qos", mqttQoS},
	{"order", mqttOrder},
	{"retained", mqttRetained},
	{"offline-messages", mqttOffline},
	{"will", mqttWills},
	{"retained-will", mqttRetainedWill},
	{"shared-subscription", mqttShared},
	{"unsubscribe", mqttUnsubscribe},
	{"payload-sizes", mqttSizes},
	{"takeover", mqttTakeover},
	{"granted-qos", mqttGranted},
}

var mqttForV5 = []mqttCheck{
	{"properties", mqttProperties},
	{"identifiers-of-overlapping-subscriptions", mqttIdentifiers},
	{"options-of-subscriptions", mqttSubscribeOptions},
	{"session-expiry", mqttSessionExpiry},
	{"will-with-properties", mqttWillProperties},
	{"request-and-response", mqttRequest},
	{"topic-alias", mqttTopicAlias},
	{"receive-maximum", mqttReceiveMaximum},
	{"maximum-packet-size", mqttPacketSize},
	{"assigned-client-id", mqttAssignedID},
	{"codes-of-unsuback", mqttUnsubackCodes},
}

func mqttQoS(s *mqttSession) {
	topic, publisher := newTopic(), s.connect()
	listeners := []mqttClient{s.listener(0, topic), s.listener(1, topic), s.listener(2, topic)}
	for qos := range byte(3) {
		publisher.publish(topic, fmt.Sprint(qos), qos, false)
		for level, listener := range listeners {
			expectMessage(listener, topic, fmt.Sprint(qos), min(qos, byte(level)), false)
		}
	}
}

func mqttOrder(s *mqttSession) {
	publisher := s.connect()
	for qos := range byte(3) {
		topic := newTopic()
		listener := s.listener(qos, topic)
		for _, body := range numbered(100) {
			publisher.publish(topic, body, qos, false)
		}
		equal(payloads(listener, 100), numbered(100), "the messages")
	}
}

func mqttRetained(s *mqttSession) {
	topic, publisher := newTopic(), s.connect()
	s.retain(publisher, topic+"/a", "a")
	s.retain(publisher, topic+"/b", "b")
	got := payloads(s.listener(1, topic+"/+"), 2)
	slices.Sort(got)
	equal(got, []string{"a", "b"}, "what is retained")
	publisher.publish(topic+"/a", "", 1, true)
	late := s.listener(1, topic+"/+")
	expectMessage(late, topic+"/b", "b", 1, true)
	publisher.publish(topic+"/a", "live", 1, false)
	expectMessage(late, topic+"/a", "live", 1, false)
}

func mqttOffline(s *mqttSession) {
	topic, kept, publisher := newTopic(), s.keep(""), s.connect()
	kept.subscribe(2, topic)
	kept.disconnect()
	for _, body := range numbered(20) {
		publisher.publish(topic, body, 2, false)
	}
	again := s.keep(kept.id())
	if s.version != v31 {
		equal(again.present(), true, "session present")
	}
	equal(payloads(again, 20), numbered(20), "the messages")
}

func mqttWills(s *mqttSession) {
	topic := newTopic()
	watcher := s.listener(2, topic)
	s.connectWith(mqttOptions{will: &mqttWill{topic: topic, payload: "left", qos: 1}}).disconnect()
	for qos := range byte(3) {
		s.connectWith(mqttOptions{will: &mqttWill{topic: topic, payload: "gone", qos: qos}}).drop()
		expectMessage(watcher, topic, "gone", qos, false)
	}
}

func mqttRetainedWill(s *mqttSession) {
	topic := newTopic()
	watcher := s.listener(1, topic)
	s.retained = append(s.retained, topic)
	s.connectWith(mqttOptions{will: &mqttWill{topic: topic, payload: "gone", qos: 1, retained: true}}).drop()
	expectMessage(watcher, topic, "gone", 1, false)
	expectMessage(s.listener(1, topic), topic, "gone", 1, true)
}

func mqttShared(s *mqttSession) {
	topic, publisher := newTopic(), s.connect()
	alone, one, two := s.listener(1, topic), s.listener(1, "$share/group/"+topic), s.listener(1, "$share/group/"+topic)
	for _, body := range numbered(40) {
		publisher.publish(topic, body, 1, false)
	}
	equal(payloads(alone, 40), numbered(40), "what an ordinary subscriber got")
	got := []string{}
	for len(got) < 40 {
		select {
		case message := <-one.messages():
			got = append(got, message.payload)
		case message := <-two.messages():
			got = append(got, message.payload)
		case <-time.After(eventTime):
			fail("the group got %d messages", len(got))
		}
	}
	expected := numbered(40)
	slices.Sort(got)
	slices.Sort(expected)
	equal(got, expected, "what the group got")
}

func mqttUnsubscribe(s *mqttSession) {
	topic := newTopic()
	listener, publisher := s.listener(1, topic+"/a", topic+"/b"), s.connect()
	listener.unsubscribe(topic + "/a")
	publisher.publish(topic+"/a", "a", 1, false)
	publisher.publish(topic+"/b", "b", 1, false)
	expectMessage(listener, topic+"/b", "b", 1, false)
}

func mqttSizes(s *mqttSession) {
	topic := newTopic()
	listener, publisher := s.listener(2, topic), s.connect()
	for index, size := range []int{0, 1, 127, 128, 16_384, 1024 * 1024} {
		body := make([]byte, size)
		must(rand.Read(body))
		publisher.publish(topic, string(body), byte(index%3), false)
		equal(digest([]byte(next(listener.messages(), "message").payload)), digest(body), "the digest")
	}
}

func mqttTakeover(s *mqttSession) {
	first := s.connect()
	second := s.connectWith(mqttOptions{id: first.id()})
	next(first.lost(), "end of the first connection")
	if five, is5 := first.(*client5); is5 {
		equal(next(five.told, "DISCONNECT"), 0x8E, "the code of DISCONNECT")
	}
	topic := newTopic()
	second.subscribe(1, topic)
	second.publish(topic, "still there", 1, false)
	expectMessage(second, topic, "still there", 1, false)
}

func mqttGranted(s *mqttSession) {
	topic, client := newTopic(), s.connect()
	for qos := range byte(3) {
		equal(client.subscribe(qos, topic+"/a", topic+"/b"), []byte{qos, qos}, "the codes of SUBACK")
	}
}

// What only version 5 has

func (s *mqttSession) connectV5(options options5) *client5 {
	return s.connectWith(mqttOptions{five: &options}).(*client5)
}

func someProperties() properties5 {
	user := paho5.UserProperties{{Key: "b", Value: "1"}, {Key: "a", Value: "ä"}, {Key: "b", Value: "1"}}
	return &paho5.PublishProperties{
		ContentType: "text/plain", ResponseTopic: "replies/a", CorrelationData: []byte{0, 255}, PayloadFormat: pointer(byte(1)), User: user,
	}
}

func mqttProperties(s *mqttSession) {
	topic, listener := newTopic(), s.connectV5(options5{})
	listener.subscribeWith(&paho5.Subscribe{
		Properties:    &paho5.SubscribeProperties{SubscriptionIdentifier: pointer(268435455)},
		Subscriptions: []paho5.SubscribeOptions{{Topic: topic, QoS: 1}},
	})
	sent := someProperties()
	sent.MessageExpiry = pointer(uint32(1000))
	s.connectV5(options5{}).publishWith(&paho5.Publish{Topic: topic, QoS: 1, Payload: []byte("x"), Properties: sent})
	found := expectMessage(listener, topic, "x", 1, false).properties
	if left := *found.MessageExpiry; left != 999 && left != 1000 {
		fail("of 1000 s are left %d", left)
	}
	found.MessageExpiry = nil
	expected := someProperties()
	expected.SubscriptionIdentifier = pointer(268435455)
	equal(found, expected, "the properties")
}

func mqttIdentifiers(s *mqttSession) {
	topic, listener := newTopic(), s.connectV5(options5{})
	for number, filter := range []string{topic + "/+", topic + "/#"} {
		listener.subscribeWith(&paho5.Subscribe{
			Properties:    &paho5.SubscribeProperties{SubscriptionIdentifier: pointer(number + 1)},
			Subscriptions: []paho5.SubscribeOptions{{Topic: filter}},
		})
	}
	publisher := s.connect()
	publisher.publish(topic+"/a", "both", 1, false)
	publisher.publish(topic+"/a/b", "one", 1, false)
	for message := next(listener.messages(), "message"); message.payload == "both"; message = next(listener.messages(), "message") {
		if message.properties.SubscriptionIdentifier == nil {
			fail("a message without a subscription identifier")
		}
	}
}

func mqttSubscribeOptions(s *mqttSession) {
	topic, other, client := newTopic(), s.connect(), s.connectV5(options5{})
	s.retain(other, topic, "retained")
	option := paho5.SubscribeOptions{Topic: topic, QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}
	client.subscribeWith(&paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{option}})
	client.publish(topic, "own", 1, false)
	s.retain(other, topic, "of another")
	expectMessage(client, topic, "of another", 1, true)
}

func mqttSessionExpiry(s *mqttSession) {
	id := newClientID()
	connect := func(seconds uint32) *client5 {
		properties := options5{SessionExpiryInterval: &seconds}
		return s.connectWith(mqttOptions{id: id, keep: true, five: &properties}).(*client5)
	}
	connect(60).disconnect()
	again := connect(0)
	equal(again.present(), true, "session present after an expiry of 60 s")
	again.disconnect()
	equal(connect(0).present(), false, "session present after an expiry of 0 s")
}

func mqttWillProperties(s *mqttSession) {
	topic := newTopic()
	watcher, user := s.listener(1, topic), someProperties().User
	// Of a will's properties, paho.golang sends these and no others.
	properties := &willProperties5{WillDelayInterval: pointer(uint32(1)), User: user}
	begun := time.Now()
	will := &mqttWill{topic: topic, payload: "gone", qos: 1, properties: properties}
	s.connectWith(mqttOptions{keep: true, will: will}).drop()
	equal(expectMessage(watcher, topic, "gone", 1, false).properties.User, user, "the user properties")
	if took := time.Since(begun); took < eventTime/10 {
		fail("the delayed will came after %v", took)
	}
}

func mqttRequest(s *mqttSession) {
	requests, replies := newTopic(), newTopic()
	responder, requester := s.listener(1, requests).(*client5), s.listener(1, replies).(*client5)
	sent := &paho5.PublishProperties{ResponseTopic: replies, CorrelationData: []byte("7")}
	requester.publishWith(&paho5.Publish{Topic: requests, QoS: 1, Payload: []byte("ping"), Properties: sent})
	request := expectMessage(responder, requests, "ping", 1, false).properties
	answer := &paho5.PublishProperties{CorrelationData: request.CorrelationData}
	responder.publishWith(&paho5.Publish{Topic: request.ResponseTopic, QoS: 1, Payload: []byte("pong"), Properties: answer})
	found := expectMessage(requester, replies, "pong", 1, false).properties
	equal(string(found.CorrelationData), "7", "the correlation data")
}

func mqttTopicAlias(s *mqttSession) {
	topic := newTopic()
	listener, publisher := s.listener(1, topic), s.connectV5(options5{})
	for _, name := range []string{topic, "", ""} {
		alias := &paho5.PublishProperties{TopicAlias: pointer(uint16(2))}
		publisher.publishWith(&paho5.Publish{Topic: name, QoS: 1, Payload: []byte("x"), Properties: alias})
		expectMessage(listener, topic, "x", 1, false)
	}
}

func mqttReceiveMaximum(s *mqttSession) {
	topic, publisher := newTopic(), s.connect()
	listener := s.connectV5(options5{ReceiveMaximum: pointer(uint16(2))})
	listener.subscribe(2, topic)
	for _, body := range numbered(20) {
		publisher.publish(topic, body, 2, false)
	}
	equal(payloads(listener, 20), numbered(20), "the messages")
}

func mqttPacketSize(s *mqttSession) {
	topic, publisher := newTopic(), s.connect()
	listener := s.connectV5(options5{MaximumPacketSize: pointer(uint32(500))})
	listener.subscribe(1, topic)
	publisher.publish(topic, strings.Repeat("x", 1000), 1, false)
	publisher.publish(topic, "small", 1, false)
	expectMessage(listener, topic, "small", 1, false)
}

func mqttAssignedID(s *mqttSession) {
	client := connect5(mqttOptions{})
	s.clients = append(s.clients, client)
	if client.connack.Properties.AssignedClientID == "" {
		fail("no client identifier is assigned")
	}
}

func mqttUnsubackCodes(s *mqttSession) {
	topic, client := newTopic(), s.connectV5(options5{})
	client.subscribe(1, topic)
	equal(client.unsubscribeCodes(topic, topic+"/none"), []byte{0, 0x11}, "the codes of UNSUBACK")
}

// mqttRestart has a session of each version, what is retained, and clients that come back by themselves.
func mqttRestart() {
	judges := []func(){}
	for _, v := range versions {
		s := newMQTTSession(v)
		defer s.close()
		judges = append(judges, s.prepareRestart())
	}
	restartBroker()
	for _, judge := range judges {
		judge()
	}
}

func (s *mqttSession) prepareRestart() (judge func()) {
	topic, kept, publisher := newTopic(), s.keep(""), s.connect()
	kept.subscribe(2, topic+"/queue")
	kept.disconnect()
	for _, body := range numbered(5) {
		publisher.publish(topic+"/queue", body, 2, false)
	}
	s.retain(publisher, topic+"/retained", "retained")
	comesBack := s.comesBack(topic + "/live")
	return func() {
		equal(payloads(s.keep(kept.id()), 5), numbered(5), "the messages after the restart")
		expectMessage(s.listener(1, topic+"/retained"), topic+"/retained", "retained", 1, true)
		s.connect().publish(topic+"/live", "live", 1, false)
		equal(next(comesBack, "message").payload, "live", "the message to a client that comes back")
	}
}

// comesBack is what a client gets that is subscribed, and connects again whenever its connection ends.
func (s *mqttSession) comesBack(filter string) <-chan mqttMessage {
	options := mqttOptions{id: newClientID(), keep: true}
	s.kept = append(s.kept, options.id)
	if s.version != v5 {
		client := newClient3(s.version, options, true)
		await3(client.client.Connect())
		client.subscribe(1, filter)
		s.clients = append(s.clients, client)
		return client.arrived
	}
	arrived := make(chan mqttMessage, 16)
	manager := must(autopaho.NewConnection(context.Background(), autopaho.ClientConfig{
		ServerUrls:       []*url.URL{mqttURI()},
		KeepAlive:        60,
		ReconnectBackoff: func(int) time.Duration { return eventTime / 100 },
		ConnectPacketBuilder: func(*paho5.Connect, *url.URL) (*paho5.Connect, error) {
			return connectPacket5(options), nil
		},
		ClientConfig: paho5.ClientConfig{ClientID: options.id, OnPublishReceived: []func(paho5.PublishReceived) (bool, error){
			func(got paho5.PublishReceived) (bool, error) {
				arrived <- mqttMessage{topic: got.Packet.Topic, payload: string(got.Packet.Payload)}
				return true, nil
			},
		}},
	}))
	ctx, cancel := soon()
	defer cancel()
	try(manager.AwaitConnection(ctx))
	must(manager.Subscribe(ctx, &paho5.Subscribe{Subscriptions: []paho5.SubscribeOptions{{Topic: filter, QoS: 1}}}))
	return arrived
}
