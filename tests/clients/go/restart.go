package main

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// One restart serves two questions: is what was confirmed still there, and does the client's automatic recovery come back,
// with its exclusive queue, binding and consumer?
func restartAndRecovery(s *session) {
	ch := s.channel()
	exchange, queue := s.exchange(ch, "topic"), s.queue(ch, nil)
	try(ch.QueueBind(queue, "kept.*", exchange, false, nil))
	try(ch.Confirm(false))
	for _, body := range numbered(5) {
		message := amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent}
		equal(confirmed(ch, exchange, "kept.now", true, message), true, "confirmed")
	}
	equal(confirmed(ch, exchange, "kept.now", true, amqp.Publishing{Body: []byte("transient")}), true, "confirmed")
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	recovering := s.startRecoveringConsumer(exchange)
	stream := s.stream(s.channel(), 3)
	late := s.startDelay()

	restartBroker()

	equal(next(closed, "the end of the old connection").Code, 320, "reason of the old connection's end")
	ch = s.channel()
	equal(drain(ch, queue), numbered(5), "the messages after the restart")
	recovering.expectMessage(ch, exchange)
	reader := s.readers(1, 10, stream, "first")[0]
	extend(ch, stream, 3, 5)
	expectFrom(reader, 0, 5)
	if late != "" {
		equal(bodies(take(consume(ch, late, "", true), 1)), []string{"delayed"}, "the delayed message")
	}
}

// startDelay publishes a message that comes after the restart, and returns the queue to which it goes; none if the broker has
// no delayed messages.
func (s *session) startDelay() string {
	connection := s.connect()
	if isRabbitMQ(connection) {
		return ""
	}
	exchange := s.delayedExchange(connection)
	ch := must(connection.Channel())
	queue := s.queue(ch, nil)
	try(ch.QueueBind(queue, "k", exchange, false, nil))
	try(ch.Confirm(false))
	message := amqp.Publishing{
		Body: []byte("delayed"), DeliveryMode: amqp.Persistent, Headers: amqp.Table{"x-delay": int32(1500)},
	}
	equal(confirmed(ch, exchange, "k", true, message), true, "confirmed")
	equal(ready(ch, queue), 0, "messages before their time")
	return queue
}

type recoveringConsumer struct {
	deliveries <-chan amqp.Delivery
	states     <-chan *amqp.StateChanged
}

func (s *session) startRecoveringConsumer(exchange string) recoveringConsumer {
	connection := s.connectWith(amqp.Config{Locale: "en_US", Recovery: &amqp.Recovery{
		ReconnectionConfig: &amqp.ReconnectionConfig{MaxRetryCount: 300, RetryInterval: 100 * time.Millisecond},
	}})
	states := make(chan *amqp.StateChanged, 100)
	connection.NotifyStateChange(states)
	ch := must(connection.Channel())
	queue := must(ch.QueueDeclare(unique("exclusive"), false, false, true, false, nil)).Name
	try(ch.QueueBind(queue, "recovered.#", exchange, false, nil))
	return recoveringConsumer{deliveries: consume(ch, queue, "recovering", true), states: states}
}

func (r recoveringConsumer) expectMessage(ch *amqp.Channel, exchange string) {
	try(ch.Confirm(false))
	returns := ch.NotifyReturn(make(chan amqp.Return, 1000))
	message := amqp.Publishing{Body: []byte("after")}
	waitUntil(func() bool {
		before := len(returns)
		return confirmed(ch, exchange, "recovered.now", true, message) && len(returns) == before
	}, "the recovered queue is bound again")
	delivery := next(r.deliveries, "delivery to the recovered consumer")
	equal([]string{delivery.ConsumerTag, string(delivery.Body)}, []string{"recovering", "after"}, "delivery")
	equal(len(r.states) > 0, true, "the client has seen a change of state")
}
