package main

import (
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Streams: messages that stay, and readers that each go at their own pace.

// stream is a new one with so many numbered messages, each confirmed.
func (s *session) stream(ch *amqp.Channel, count int) string {
	name := s.queue(ch, amqp.Table{"x-queue-type": "stream"})
	try(ch.Confirm(false))
	extend(ch, name, 0, count)
	return name
}

func extend(ch *amqp.Channel, stream string, from, to int) {
	for number := from; number < to; number++ {
		message := amqp.Publishing{Body: []byte("m" + strconv.Itoa(number))}
		equal(confirmed(ch, "", stream, false, message), true, "confirmed")
	}
}

func (s *session) readers(count, prefetch int, stream string, offset any) []<-chan amqp.Delivery {
	readers := []<-chan amqp.Delivery{}
	for range count {
		ch := s.channel()
		try(ch.Qos(prefetch, 0, false))
		arguments := amqp.Table{"x-stream-offset": offset}
		readers = append(readers, must(ch.Consume(stream, "", false, false, false, false, arguments)))
	}
	return readers
}

// expectFrom expects the messages with these numbers, which are their offsets too.
func expectFrom(reader <-chan amqp.Delivery, from, to int) amqp.Delivery {
	var delivery amqp.Delivery
	for number := from; number < to; number++ {
		delivery = next(reader, "message of a stream")
		equal(delivery.Headers["x-stream-offset"], any(int64(number)), "offset")
		equal(string(delivery.Body), "m"+strconv.Itoa(number), "body")
		equal(delivery.Redelivered, false, "redelivered")
	}
	return delivery
}

func streamOffsets(s *session) {
	ch := s.channel()
	stream := s.stream(ch, 5)
	now := time.Now()
	for _, each := range []struct {
		offset any
		first  int
	}{{"first", 0}, {int64(3), 3}, {now.Add(-time.Hour), 0}, {"1h", 0}, {"next", 5}} {
		reader := s.readers(1, 100, stream, each.offset)[0]
		expectFrom(reader, each.first, 5)
		equal(len(reader), 0, "more deliveries")
	}
	last := s.readers(1, 100, stream, "last")[0]
	for string(next(last, "the last").Body) != "m4" { // RabbitMQ begins with the last chunk
	}
}

func streamOfManyReaders(s *session) {
	ch := s.channel()
	stream := s.stream(ch, 50)
	readers := s.readers(3, 100, stream, "first")
	extend(ch, stream, 50, 55)
	for _, reader := range readers {
		expectFrom(reader, 0, 55)
	}
	expectFrom(s.readers(1, 100, stream, "first")[0], 0, 55)
}

func streamCredit(s *session) {
	stream := s.stream(s.channel(), 9)
	reader := s.readers(1, 3, stream, "first")[0]
	last := expectFrom(reader, 0, 3)
	equal(len(reader), 0, "deliveries over the prefetch")
	try(last.Ack(true))
	last = expectFrom(reader, 3, 6)
	try(last.Nack(true, true))
	expectFrom(reader, 6, 9)
}
