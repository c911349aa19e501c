package main

import (
	"context"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	paho5 "github.com/eclipse/paho.golang/paho"
)

type (
	properties5     = *paho5.PublishProperties
	willProperties5 = paho5.WillProperties
	options5        = paho5.ConnectProperties
)

// client5 is one of paho.golang.
type client5 struct {
	client  *paho5.Client
	name    string
	connack *paho5.Connack
	arrived chan mqttMessage
	gone    chan struct{}
	told    chan byte // the codes of the broker's DISCONNECT
	conn    net.Conn
}

func pointer[V any](value V) *V { return &value }

func connect5(options mqttOptions) *client5 {
	c := &client5{name: options.id, arrived: make(chan mqttMessage, 4096), gone: make(chan struct{}, 16), told: make(chan byte, 1)}
	c.conn = mqttDial()
	c.client = paho5.NewClient(paho5.ClientConfig{
		ClientID:           options.id,
		Conn:               packets.NewThreadSafeConn(c.conn),
		OnPublishReceived:  []func(paho5.PublishReceived) (bool, error){c.receive},
		OnServerDisconnect: func(d *paho5.Disconnect) { c.told <- d.ReasonCode; c.gone <- struct{}{} },
		OnClientError:      func(error) { c.gone <- struct{}{} },
		PacketTimeout:      eventTime,
	})
	ctx, cancel := soon()
	defer cancel()
	c.connack = must(c.client.Connect(ctx, connectPacket5(options)))
	return c
}

func soon() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), eventTime)
}

func connectPacket5(options mqttOptions) *paho5.Connect {
	user := mqttURI().User
	password, hasPassword := user.Password()
	packet := &paho5.Connect{
		ClientID: options.id, CleanStart: !options.keep, KeepAlive: 60,
		Username: user.Username(), UsernameFlag: user != nil, Password: []byte(password), PasswordFlag: hasPassword,
		Properties: options.five,
	}
	if packet.Properties == nil {
		packet.Properties = &options5{RequestProblemInfo: true}
	}
	if options.keep && packet.Properties.SessionExpiryInterval == nil {
		packet.Properties.SessionExpiryInterval = pointer(uint32(0xFFFFFFFF))
	}
	if will := options.will; will != nil {
		packet.WillMessage = &paho5.WillMessage{Topic: will.topic, Payload: []byte(will.payload), QoS: will.qos, Retain: will.retained}
		packet.WillProperties = will.properties
	}
	return packet
}

func (c *client5) receive(got paho5.PublishReceived) (bool, error) {
	p := got.Packet
	message := mqttMessage{topic: p.Topic, payload: string(p.Payload), qos: p.QoS, retained: p.Retain, properties: p.Properties}
	c.arrived <- message
	return true, nil
}

func (c *client5) id() string                   { return c.name }
func (c *client5) present() bool                { return c.connack.SessionPresent }
func (c *client5) messages() <-chan mqttMessage { return c.arrived }
func (c *client5) lost() <-chan struct{}        { return c.gone }
func (c *client5) drop()                        { c.conn.Close() }

func (c *client5) disconnect() {
	try(c.client.Disconnect(&paho5.Disconnect{}))
	select {
	case <-c.client.Done():
	case <-time.After(eventTime):
		fail("the connection doesn't end")
	}
}

func (c *client5) subscribe(qos byte, filters ...string) []byte {
	packet := &paho5.Subscribe{}
	for _, filter := range filters {
		packet.Subscriptions = append(packet.Subscriptions, paho5.SubscribeOptions{Topic: filter, QoS: qos})
	}
	return c.subscribeWith(packet)
}

func (c *client5) subscribeWith(packet *paho5.Subscribe) []byte {
	ctx, cancel := soon()
	defer cancel()
	return must(c.client.Subscribe(ctx, packet)).Reasons
}

func (c *client5) unsubscribe(filters ...string) { c.unsubscribeCodes(filters...) }

func (c *client5) unsubscribeCodes(filters ...string) []byte {
	ctx, cancel := soon()
	defer cancel()
	return must(c.client.Unsubscribe(ctx, &paho5.Unsubscribe{Topics: filters})).Reasons
}

func (c *client5) publish(topic, payload string, qos byte, retained bool) {
	c.publishWith(&paho5.Publish{Topic: topic, Payload: []byte(payload), QoS: qos, Retain: retained})
}

func (c *client5) publishWith(packet *paho5.Publish) {
	ctx, cancel := soon()
	defer cancel()
	must(c.client.Publish(ctx, packet))
}
