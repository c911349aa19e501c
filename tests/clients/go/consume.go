package main

import (
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func consumeWithManualAcks(s *session) {
	ch := s.channel()
	queue := s.filled(ch, numbered(10)...)
	for index, delivery := range take(consume(ch, queue, "reader", false), 10) {
		equal(string(delivery.Body), "m"+strconv.Itoa(index), "body")
		equal(delivery.DeliveryTag, uint64(index+1), "delivery tag")
		equal([]string{delivery.ConsumerTag, delivery.Exchange, delivery.RoutingKey}, []string{"reader", "", queue}, "delivery")
		equal(delivery.Redelivered, false, "redelivered")
		try(delivery.Ack(false))
	}
	try(ch.Close())
	equal(ready(s.channel(), queue), 0, "messages after their acks")
}

func getAndGetEmpty(s *session) {
	ch := s.channel()
	queue := s.filled(ch, numbered(2)...)
	delivery := get(ch, queue, false)
	equal(delivery.MessageCount, uint32(1), "messages left")
	equal(string(delivery.Body), "m0", "body")
	try(delivery.Ack(false))
	equal(string(get(ch, queue, true).Body), "m1", "body")
	getEmpty(ch, queue)
}

func ackMultiple(s *session) {
	ch := s.channel()
	queue := s.filled(ch, numbered(6)...)
	try(take(consume(ch, queue, "", false), 6)[3].Ack(true))
	try(ch.Close())
	equal(drain(s.channel(), queue), []string{"m4", "m5"}, "what was not acknowledged")
}

func nackRequeueKeepsOrder(s *session) {
	ch := s.channel()
	queue := s.filled(ch, numbered(5)...)
	first, second, third := get(ch, queue, false), get(ch, queue, false), get(ch, queue, false)
	try(second.Nack(false, true))
	try(first.Nack(false, true))
	try(third.Nack(false, true))
	for index := range 5 {
		delivery := get(ch, queue, true)
		equal(string(delivery.Body), "m"+strconv.Itoa(index), "body")
		equal(delivery.Redelivered, index < 3, "redelivered flag of "+string(delivery.Body))
	}
}

func rejectRequeueAndDrop(s *session) {
	ch := s.channel()
	queue := s.filled(ch, "m")
	try(get(ch, queue, false).Reject(true))
	again := get(ch, queue, false)
	equal(again.Redelivered, true, "redelivered")
	try(again.Reject(false))
	synchronise(ch)
	getEmpty(ch, queue)
}

func rejectDeadLetters(s *session) {
	ch := s.channel()
	grave := s.queue(ch, nil)
	queue := s.queue(ch, amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave})
	publish(ch, "", queue, "bad")
	deliveries := consume(ch, grave, "", true)
	try(take(consume(ch, queue, "", false), 1)[0].Reject(false))
	dead := next(deliveries, "dead letter")
	death := dead.Headers["x-death"].([]any)[0].(amqp.Table)
	_, dated := death["time"].(time.Time)
	equal(dated, true, "x-death has a time")
	delete(death, "time")
	expected := amqp.Table{
		"count": int64(1), "reason": "rejected", "queue": queue, "exchange": "", "routing-keys": []any{queue},
	}
	equal(death, expected, "x-death")
	equal(string(dead.Body), "bad", "body")
}

func unackedMessagesReturn(s *session) {
	connection := s.connect()
	ch := must(connection.Channel())
	queue := s.filled(ch, numbered(3)...)
	take(consume(ch, queue, "", false), 3)
	try(connection.Close())
	ch = s.channel()
	waitUntil(func() bool { return ready(ch, queue) == 3 }, "the messages are back")
	for _, body := range numbered(3) {
		delivery := get(ch, queue, true)
		equal(string(delivery.Body), body, "body")
		equal(delivery.Redelivered, true, "redelivered")
	}
}

func recoverRequeues(s *session) {
	ch := s.channel()
	queue := s.filled(ch, numbered(2)...)
	deliveries := consume(ch, queue, "", false)
	take(deliveries, 2)
	try(ch.Recover(true))
	again := take(deliveries, 2)
	equal(bodies(again), numbered(2), "bodies")
	equal([]bool{again[0].Redelivered, again[1].Redelivered}, []bool{true, true}, "redelivered")
}

func prefetchPerConsumer(s *session) {
	ch := s.channel()
	queues := []string{s.filled(ch, numbered(6)...), s.filled(ch, numbered(6)...)}
	try(ch.Qos(2, 0, false))
	var last []amqp.Delivery
	for _, queue := range queues {
		deliveries := consume(ch, queue, "", false)
		last = take(deliveries, 2)
		synchroniseTwice(ch)
		equal(len(deliveries), 0, "deliveries over the prefetch")
		equal(ready(ch, queue), 4, "messages held back")
		try(last[0].Ack(false))
		equal(bodies(take(deliveries, 1)), []string{"m2"}, "the next after an ack")
	}
}

// synchroniseTwice lets everything arrive that the broker sends without being asked.
func synchroniseTwice(ch *amqp.Channel) {
	for range 2 {
		must(ch.QueueDeclare("", false, true, true, false, nil))
	}
}

func cancelKeepsUnacked(s *session) {
	ch := s.channel()
	queue := s.filled(ch, numbered(2)...)
	deliveries := take(consume(ch, queue, "reader", false), 2)
	try(ch.Cancel("reader", false))
	equal(inspect(ch, queue).Consumers, 0, "consumers")
	try(deliveries[0].Ack(false))
	try(deliveries[1].Nack(false, true))
	synchronise(ch)
	equal(drain(ch, queue), []string{"m1"}, "what was requeued")
}

func consumerCancelNotify(s *session) {
	ch := s.channel()
	queue := s.queue(ch, nil)
	cancelled := ch.NotifyCancel(make(chan string, 1))
	deliveries := consume(ch, queue, "orphan", false)
	must(s.channel().QueueDelete(queue, false, false, false))
	equal(next(cancelled, "cancel"), "orphan", "cancelled consumer")
	select {
	case _, open := <-deliveries:
		equal(open, false, "the delivery channel is open")
	case <-time.After(eventTime):
		fail("the delivery channel stays open")
	}
	synchronise(ch)
}

// The client takes an end of the stream before its own for an error, so after close-ok the broker leaves the end to it.
func closeIsNoError(s *session) {
	const connections = 50
	errors := 0
	for range connections {
		connection := must(amqp.Dial(brokerURI()))
		closed := connection.NotifyClose(make(chan *amqp.Error, 1))
		try(connection.Close())
		if reason := <-closed; reason != nil {
			errors++
		}
	}
	equal(errors, 0, "errors of connections that were closed in order")
}

func directReplyTo(s *session) {
	client, server := s.channel(), s.channel()
	requests := s.queue(server, nil)
	replies := consume(client, "amq.rabbitmq.reply-to", "", true)
	publishMessage(client, "", requests, false, amqp.Publishing{
		ReplyTo: "amq.rabbitmq.reply-to", CorrelationId: "1", Body: []byte("ping"),
	})
	request := next(consume(server, requests, "", true), "request")
	equal(strings.HasPrefix(request.ReplyTo, "amq.rabbitmq.reply-to."), true, "the prefix of "+request.ReplyTo)
	publishMessage(server, "", request.ReplyTo, false, amqp.Publishing{
		CorrelationId: request.CorrelationId, Body: append(request.Body, " pong"...),
	})
	reply := next(replies, "reply")
	equal([]string{reply.CorrelationId, string(reply.Body)}, []string{"1", "ping pong"}, "reply")
}

func twoThousandChannels(s *session) {
	connection := s.connect()
	channels := []*amqp.Channel{}
	for range 2000 {
		channels = append(channels, must(connection.Channel()))
	}
	queue := s.queue(channels[0], nil)
	expected := []string{}
	for index, ch := range channels {
		publish(ch, "", queue, strconv.Itoa(index))
		synchronise(ch)
		expected = append(expected, strconv.Itoa(index))
	}
	equal(drain(channels[1500], queue), expected, "one message of each channel")
}
