package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

func publishWithConfirms(s *session) {
	ch := s.channel()
	queue := s.queue(ch, nil)
	try(ch.Confirm(false))
	const count = 1000
	confirmations := ch.NotifyPublish(make(chan amqp.Confirmation, count))
	for _, body := range numbered(count) {
		message := amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent}
		must(ch.PublishWithDeferredConfirmWithContext(context.Background(), "", queue, true, false, message))
	}
	seen := map[uint64]bool{}
	for range count {
		confirmation := next(confirmations, "confirm")
		equal(confirmation.Ack, true, fmt.Sprintf("ack of %d", confirmation.DeliveryTag))
		seen[confirmation.DeliveryTag] = true
	}
	equal(len(seen), count, "different confirms")
	equal(ready(ch, queue), count, "messages after their confirms")
	equal(drain(ch, queue), numbered(count), "bodies in order")
}

func mandatoryReturn(s *session) {
	ch := s.channel()
	returns := ch.NotifyReturn(make(chan amqp.Return, 1))
	missing := unique("nowhere")
	publishMessage(ch, "", missing, true, amqp.Publishing{Body: []byte("back"), MessageId: "7"})
	returned := next(returns, "return")
	equal(returned.ReplyCode, uint16(312), "reply code")
	equal(returned.ReplyText, "NO_ROUTE", "reply text")
	equal([]string{returned.RoutingKey, returned.MessageId, string(returned.Body)}, []string{missing, "7", "back"}, "message")
}

func mandatoryReturnBeforeConfirm(s *session) {
	ch := s.channel()
	try(ch.Confirm(false))
	returns := ch.NotifyReturn(make(chan amqp.Return, 1))
	message := amqp.Publishing{Body: []byte("back")}
	equal(confirmed(ch, "", unique("nowhere"), true, message), true, "an unroutable message is confirmed")
	equal(len(returns), 1, "returns before the confirm")
	equal(confirmed(ch, "", unique("nowhere"), false, message), true, "an unroutable message is confirmed")
	equal(len(returns), 1, "returns of a message that is not mandatory")
}

func messageSizes(s *session) {
	ch := s.channel()
	queue := s.queue(ch, nil)
	try(ch.Confirm(false))
	for _, size := range []int{0, 1, 128*1024 - 8, 128*1024 + 1, 1_000_000, 16 * 1024 * 1024} {
		sent := make([]byte, size)
		must(rand.Read(sent))
		equal(confirmed(ch, "", queue, true, amqp.Publishing{Body: sent}), true, "confirmed")
		received := get(ch, queue, true).Body
		equal(len(received), size, "size")
		equal(digest(received), digest(sent), fmt.Sprintf("digest of %d bytes", size))
	}
}

func propertiesRoundTrip(s *session) {
	ch := s.channel()
	queue := s.queue(ch, nil)
	publishMessage(ch, "", queue, false, amqp.Publishing{
		Headers: amqp.Table{"k": "v"}, ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: amqp.Persistent,
		Priority: 9, CorrelationId: "correlation", ReplyTo: "reply.queue", Expiration: "60000", MessageId: "message",
		Timestamp: time.Unix(1_700_000_000, 0), Type: "kind", UserId: parsedURI().Username, AppId: "suite", Body: []byte("x"),
	})
	synchronise(ch)
	received := get(ch, queue, true)
	equal(received.Headers, amqp.Table{"k": "v"}, "headers")
	equal(received.Timestamp.Unix(), int64(1_700_000_000), "timestamp")
	equal([]uint8{received.DeliveryMode, received.Priority}, []uint8{2, 9}, "mode and priority")
	equal(
		[]string{received.ContentType, received.ContentEncoding, received.CorrelationId, received.ReplyTo, received.Expiration,
			received.MessageId, received.Type, received.UserId, received.AppId},
		[]string{"text/plain", "gzip", "correlation", "reply.queue", "60000", "message", "kind", parsedURI().Username, "suite"},
		"properties")
}

func headerTypes(s *session) {
	ch := s.channel()
	queue := s.queue(ch, nil)
	headers := amqp.Table{
		"t": true, "B": byte(200), "b": int8(-5), "s": int16(-300), "u": uint16(60000), "I": int32(-70000),
		"i": uint32(4_000_000_000), "l": int64(-1 << 60), "f": float32(1.25), "d": float64(-2.5),
		"D": amqp.Decimal{Scale: 2, Value: 314}, "S": "grüße ☃", "x": []byte{0, 255}, "T": time.Unix(1_700_000_000, 0),
		"V": nil, "F": amqp.Table{"inner": amqp.Table{"deep": int32(1)}}, "A": []any{int32(1), "two", nil, true, []any{"nested"}},
	}
	publishMessage(ch, "", queue, false, amqp.Publishing{Headers: headers})
	synchronise(ch)
	equal(get(ch, queue, true).Headers, headers, "headers")
}

func transactionCommit(s *session) {
	ch, other := s.channel(), s.channel()
	queue := s.filled(ch, "old")
	try(ch.Tx())
	try(get(ch, queue, false).Ack(false))
	for _, body := range numbered(3) {
		publish(ch, "", queue, body)
	}
	synchronise(ch)
	equal(ready(other, queue), 0, "messages before the commit")
	try(ch.TxCommit())
	equal(drain(other, queue), numbered(3), "messages after the commit")
	try(ch.Close())
	getEmpty(other, queue)
}

func transactionRollback(s *session) {
	ch := s.channel()
	queue := s.filled(ch, "old")
	try(ch.Tx())
	delivery := get(ch, queue, false)
	try(delivery.Ack(false))
	publish(ch, "", queue, "never")
	try(ch.TxRollback())
	equal(ready(ch, queue), 0, "messages after the roll-back")
	try(delivery.Ack(false))
	try(ch.TxCommit())
	try(ch.Close())
	getEmpty(s.channel(), queue)
}

func rejectPublishNacks(s *session) {
	ch := s.channel()
	queue := s.queue(ch, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	try(ch.Confirm(false))
	equal(confirmed(ch, "", queue, false, amqp.Publishing{Body: []byte("fits")}), true, "ack of the first")
	equal(confirmed(ch, "", queue, false, amqp.Publishing{Body: []byte("too many")}), false, "ack of the second")
	equal(drain(ch, queue), []string{"fits"}, "what the queue took")
}
