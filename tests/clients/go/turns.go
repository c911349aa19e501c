package main

import (
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Which message is next, who gets it, and how many there may be.

func publishWithPriority(ch *amqp.Channel, queue string, priorities ...uint8) {
	for _, priority := range priorities {
		body := []byte(strconv.Itoa(int(priority)))
		publishMessage(ch, "", queue, false, amqp.Publishing{Body: body, Priority: priority})
	}
	waitUntil(func() bool { return ready(ch, queue) == len(priorities) }, "the messages are ready")
}

func priorities(s *session) {
	ch := s.channel()
	queue := s.queue(ch, amqp.Table{"x-max-priority": 10})
	publishWithPriority(ch, queue, 0, 3, 10, 7, 200, 3)
	equal(drain(ch, queue), []string{"10", "200", "7", "3", "3", "0"}, "by priority")
	queue = s.queue(ch, quorum)
	publishWithPriority(ch, queue, 1, 1, 9)
	equal(drain(ch, queue), []string{"9", "1", "1"}, "by the priority of a quorum queue")
}

func consumerPriorities(s *session) {
	ch := s.channel()
	queue := s.queue(ch, nil)
	try(ch.Qos(1, 0, false))
	low := must(ch.Consume(queue, "low", false, false, false, false, amqp.Table{"x-priority": -1}))
	high := must(ch.Consume(queue, "high", false, false, false, false, amqp.Table{"x-priority": 5}))
	for range 3 {
		publish(ch, "", queue, "first")
		delivery := next(high, "delivery by priority")
		publish(ch, "", queue, "second")
		try(next(low, "delivery of what is left").Ack(false))
		try(delivery.Ack(false))
		synchronise(ch)
	}
}

func singleActiveConsumer(s *session) {
	for _, arguments := range []amqp.Table{{}, quorum} {
		active := s.connect()
		ch := s.channel()
		queue := s.queue(ch, with(arguments, amqp.Table{"x-single-active-consumer": true}))
		first := consume(must(active.Channel()), queue, "first", false)
		second := consume(ch, queue, "second", false)
		for _, body := range numbered(5) {
			publish(ch, "", queue, body)
		}
		equal(bodies(take(first, 5)), numbered(5), "what the first gets")
		synchroniseTwice(ch)
		equal(len(second), 0, "deliveries of the second")
		try(active.Close())
		again := take(second, 5)
		equal(bodies(again), numbered(5), "what the second gets")
		equal(again[0].Redelivered, true, "redelivered")
	}
}

func deliveryLimit(s *session) {
	ch := s.channel()
	grave := s.queue(ch, nil)
	dead := consume(ch, grave, "", true)
	queue := s.queue(ch, with(deadLettering(grave), quorum, amqp.Table{"x-delivery-limit": 2}))
	deliveries := consume(ch, queue, "", false)
	publish(ch, "", queue, "poison")
	for _, count := range []any{nil, int64(1), int64(2)} {
		delivery := next(deliveries, "attempt")
		equal(delivery.Headers["x-delivery-count"], count, "x-delivery-count")
		try(delivery.Nack(false, true))
	}
	letter := next(dead, "dead letter")
	expected := []amqp.Table{{
		"count": int64(1), "reason": "delivery_limit", "queue": queue, "exchange": "", "routing-keys": []any{queue},
	}}
	expectDeaths(letter, expected, expected[0])
	equal(string(letter.Body), "poison", "body")
}

func consumerTimeout(s *session) {
	connection := s.connect()
	notInRabbitMQ(connection, "consumer timeouts below a minute")
	for _, arguments := range []amqp.Table{{}, quorum} {
		slow, quick := must(connection.Channel()), must(connection.Channel())
		queue := s.queue(slow, with(arguments, amqp.Table{"x-consumer-timeout": 400}))
		publish(slow, "", queue, "late")
		late := next(consume(slow, queue, "slow", false), "delivery")
		again := next(consume(quick, queue, "quick", false), "delivery to another consumer")
		equal(again.Redelivered, true, "redelivered")
		try(late.Ack(false))
		synchronise(slow)
		try(again.Ack(false))
		synchronise(quick)
		equal(ready(slow, queue), 0, "messages")
	}
}

func maxLengthDeadLetters(s *session) {
	ch := s.channel()
	for _, limit := range []amqp.Table{{"x-max-length": 2}, {"x-max-length-bytes": 5}} {
		grave := s.queue(ch, nil)
		dead := consume(ch, grave, "", true)
		queue := s.queue(ch, with(deadLettering(grave), limit))
		for _, body := range numbered(4) {
			publish(ch, "", queue, body)
		}
		letters := take(dead, 2)
		equal(bodies(letters), numbered(2), "the dead letters")
		expected := []amqp.Table{{
			"count": int64(1), "reason": "maxlen", "queue": queue, "exchange": "", "routing-keys": []any{queue},
		}}
		expectDeaths(letters[0], expected, expected[0])
		equal(drain(ch, queue), []string{"m2", "m3"}, "what is left")
	}
}

func rejectPublishDeadLetters(s *session) {
	ch := s.channel()
	try(ch.Confirm(false))
	grave := s.queue(ch, nil)
	dead := consume(ch, grave, "", true)
	queue := s.queue(ch, with(deadLettering(grave), amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish-dlx"}))
	for index, body := range numbered(2) {
		equal(confirmed(ch, "", queue, false, amqp.Publishing{Body: []byte(body)}), index == 0, "ack of "+body)
	}
	equal(bodies(take(dead, 1)), []string{"m1"}, "the dead letter")
	equal(drain(ch, queue), []string{"m0"}, "what the queue took")
}

func consistentHash(s *session) {
	ch := s.channel()
	exchange := s.exchange(ch, "x-consistent-hash")
	queues := []string{s.queue(ch, nil), s.queue(ch, nil)}
	try(ch.QueueBind(queues[0], "1", exchange, false, nil))
	try(ch.QueueBind(queues[1], "3", exchange, false, nil))
	try(ch.Confirm(false))
	spread := func() [][]string {
		for number := range 200 {
			key := strconv.Itoa(number)
			equal(confirmed(ch, exchange, key, true, amqp.Publishing{Body: []byte(key)}), true, "confirmed")
		}
		return [][]string{drain(ch, queues[0]), drain(ch, queues[1])}
	}
	before := spread()
	equal(len(before[0])+len(before[1]), 200, "messages")
	equal(len(before[0]) > 10 && len(before[0]) < len(before[1]), true, "the weights are kept")
	equal(spread(), before, "where the same keys go")
}
