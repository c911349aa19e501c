package main

import (
	"net"
	"net/url"

	paho3 "github.com/eclipse/paho.mqtt.golang"
)

// client3 is one of paho.mqtt.golang.
type client3 struct {
	client         paho3.Client
	name           string
	sessionPresent bool
	arrived        chan mqttMessage
	gone           chan struct{}
	conn           net.Conn
}

func connect3(v version, options mqttOptions) *client3 {
	c := newClient3(v, options, false)
	token := c.client.Connect()
	await3(token)
	c.sessionPresent = token.(*paho3.ConnectToken).SessionPresent()
	return c
}

// newClient3 is not connected yet. If it `comesBack`, it does so whenever its connection ends.
func newClient3(v version, options mqttOptions, comesBack bool) *client3 {
	c := &client3{name: options.id, arrived: make(chan mqttMessage, 4096), gone: make(chan struct{}, 16)}
	uri := mqttURI()
	password, _ := uri.User.Password()
	level := map[version]uint{v31: 3, v311: 4}[v]
	o := paho3.NewClientOptions().AddBroker("tcp://" + uri.Host).SetClientID(options.id).SetProtocolVersion(level)
	o.SetUsername(uri.User.Username()).SetPassword(password).SetCleanSession(!options.keep)
	o.SetAutoReconnect(comesBack).SetMaxReconnectInterval(eventTime / 20).SetConnectTimeout(eventTime)
	o.SetDefaultPublishHandler(c.receive)
	o.SetConnectionLostHandler(func(paho3.Client, error) { c.gone <- struct{}{} })
	o.SetCustomOpenConnectionFn(func(*url.URL, paho3.ClientOptions) (net.Conn, error) {
		conn, err := net.DialTimeout("tcp", uri.Host, eventTime)
		c.conn = conn
		return conn, err
	})
	if will := options.will; will != nil {
		o.SetWill(will.topic, will.payload, will.qos, will.retained)
	}
	c.client = paho3.NewClient(o)
	return c
}

func (c *client3) receive(_ paho3.Client, m paho3.Message) {
	c.arrived <- mqttMessage{topic: m.Topic(), payload: string(m.Payload()), qos: m.Qos(), retained: m.Retained()}
}

func await3(token paho3.Token) {
	if !token.WaitTimeout(eventTime) {
		fail("no answer within %v", eventTime)
	}
	try(token.Error())
}

func (c *client3) id() string                   { return c.name }
func (c *client3) present() bool                { return c.sessionPresent }
func (c *client3) messages() <-chan mqttMessage { return c.arrived }
func (c *client3) lost() <-chan struct{}        { return c.gone }
func (c *client3) disconnect()                  { c.client.Disconnect(100) }
func (c *client3) drop()                        { c.conn.Close() }

func (c *client3) subscribe(qos byte, filters ...string) []byte {
	wanted := map[string]byte{}
	for _, filter := range filters {
		wanted[filter] = qos
	}
	token := c.client.SubscribeMultiple(wanted, nil)
	await3(token)
	codes := []byte{}
	for _, filter := range filters {
		codes = append(codes, token.(*paho3.SubscribeToken).Result()[filter])
	}
	return codes
}

func (c *client3) unsubscribe(filters ...string) { await3(c.client.Unsubscribe(filters...)) }

func (c *client3) publish(topic, payload string, qos byte, retained bool) {
	await3(c.client.Publish(topic, qos, retained, payload))
}
