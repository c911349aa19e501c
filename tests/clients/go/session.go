package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"

	amqp "github.com/rabbitmq/amqp091-go"
)

// session is one check's connections, and the durable things that it must not leave behind.
type session struct {
	connections []*amqp.Connection
	queues      []string
	exchanges   []string
}

func newSession() *session { return &session{} }

func brokerURI() string {
	uri := os.Getenv("AMQP_URI")
	if uri == "" {
		fail("AMQP_URI is not set, e.g. amqp://guest:guest@127.0.0.1:5672/%%2F")
	}
	return uri
}

func parsedURI() amqp.URI { return must(amqp.ParseURI(brokerURI())) }

func inVhost(format string, arguments ...any) string {
	return fmt.Sprintf(format, arguments...) + fmt.Sprintf(" in vhost '%s'", parsedURI().Vhost)
}

func unique(kind string) string {
	random := make([]byte, 6)
	must(rand.Read(random))
	return "roadstead." + kind + "." + hex.EncodeToString(random)
}

func (s *session) connectWith(config amqp.Config) *amqp.Connection {
	connection := must(amqp.DialConfig(brokerURI(), config))
	s.connections = append(s.connections, connection)
	return connection
}

func (s *session) connect() *amqp.Connection { return s.connectWith(amqp.Config{Locale: "en_US"}) }

func (s *session) channel() *amqp.Channel { return must(s.connect().Channel()) }

func (s *session) queueName() string {
	s.queues = append(s.queues, unique("q"))
	return s.queues[len(s.queues)-1]
}

func (s *session) exchangeName() string {
	s.exchanges = append(s.exchanges, unique("x"))
	return s.exchanges[len(s.exchanges)-1]
}

// queue is a new durable queue.
func (s *session) queue(ch *amqp.Channel, arguments amqp.Table) string {
	return must(ch.QueueDeclare(s.queueName(), true, false, false, false, arguments)).Name
}

// filled is a new durable queue that holds `bodies`.
func (s *session) filled(ch *amqp.Channel, bodies ...string) string {
	name := s.queue(ch, nil)
	for _, body := range bodies {
		publish(ch, "", name, body)
	}
	waitUntil(func() bool { return ready(ch, name) == len(bodies) }, "the messages are ready")
	return name
}

func (s *session) exchange(ch *amqp.Channel, kind string) string {
	name := s.exchangeName()
	try(ch.ExchangeDeclare(name, kind, true, false, false, false, nil))
	return name
}

func (s *session) close() {
	for _, connection := range s.connections {
		connection.Close() // a check may have made the broker close it
	}
	if len(s.queues)+len(s.exchanges) == 0 {
		return
	}
	connection := must(amqp.Dial(brokerURI()))
	defer connection.Close()
	ch := must(connection.Channel())
	for _, name := range s.queues {
		must(ch.QueueDelete(name, false, false, false))
	}
	for _, name := range s.exchanges {
		try(ch.ExchangeDelete(name, false, false))
	}
}

func publish(ch *amqp.Channel, exchange, key, body string) {
	publishMessage(ch, exchange, key, false, amqp.Publishing{Body: []byte(body)})
}

func publishMessage(ch *amqp.Channel, exchange, key string, mandatory bool, message amqp.Publishing) {
	try(ch.PublishWithContext(context.Background(), exchange, key, mandatory, false, message))
}

// confirmed publishes on a channel in confirm mode and says whether the broker took the message.
func confirmed(ch *amqp.Channel, exchange, key string, mandatory bool, message amqp.Publishing) bool {
	ctx, cancel := context.WithTimeout(context.Background(), eventTime)
	defer cancel()
	confirmation := must(ch.PublishWithDeferredConfirmWithContext(ctx, exchange, key, mandatory, false, message))
	return must(confirmation.WaitContext(ctx))
}

// synchronise returns when the broker has handled everything sent before.
func synchronise(ch *amqp.Channel) { try(ch.Qos(0, 0, false)) }

func inspect(ch *amqp.Channel, queue string) amqp.Queue {
	return must(ch.QueueDeclarePassive(queue, true, false, false, false, nil))
}

func ready(ch *amqp.Channel, queue string) int { return inspect(ch, queue).Messages }

func get(ch *amqp.Channel, queue string, autoAck bool) amqp.Delivery {
	delivery, ok, err := ch.Get(queue, autoAck)
	try(err)
	if !ok {
		fail("%s is empty", queue)
	}
	return delivery
}

func getEmpty(ch *amqp.Channel, queue string) {
	_, ok, err := ch.Get(queue, true)
	try(err)
	equal(ok, false, "a message in "+queue)
}

func drain(ch *amqp.Channel, queue string) []string {
	bodies := []string{}
	for {
		delivery, ok, err := ch.Get(queue, true)
		try(err)
		if !ok {
			return bodies
		}
		bodies = append(bodies, string(delivery.Body))
	}
}

func consume(ch *amqp.Channel, queue, tag string, autoAck bool) <-chan amqp.Delivery {
	return must(ch.Consume(queue, tag, autoAck, false, false, false, nil))
}

func take(deliveries <-chan amqp.Delivery, count int) []amqp.Delivery {
	taken := []amqp.Delivery{}
	for len(taken) < count {
		taken = append(taken, next(deliveries, fmt.Sprintf("delivery %d of %d", len(taken)+1, count)))
	}
	return taken
}

func bodies(deliveries []amqp.Delivery) []string {
	result := []string{}
	for _, delivery := range deliveries {
		result = append(result, string(delivery.Body))
	}
	return result
}

func numbered(count int) []string {
	result := []string{}
	for number := range count {
		result = append(result, fmt.Sprintf("m%d", number))
	}
	return result
}

func digest(body []byte) string { return fmt.Sprintf("%x", sha256.Sum256(body)) }
