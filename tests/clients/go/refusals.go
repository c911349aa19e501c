package main

import (
	"context"
	"errors"
	"net/url"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The error paths: each asserts the code and the exact text, which clients match on.

type attempt func(*amqp.Channel)

// channelRefused expects the broker to close the channel. The attempt's own error is left aside: the client reports the
// broker's reason to NotifyClose in every case, but to the call only if it waits for an answer.
func (s *session) channelRefused(connection *amqp.Connection, code int, text string, attempts ...attempt) {
	for _, each := range attempts {
		ch := must(connection.Channel())
		closed := ch.NotifyClose(make(chan *amqp.Error, 1))
		each(ch)
		expectReason(next(closed, "channel.close"), code, text)
		equal(connection.IsClosed(), false, "the connection is closed")
	}
}

func (s *session) connectionRefused(code int, text string, each attempt) {
	connection := s.connect()
	closed := connection.NotifyClose(make(chan *amqp.Error, 1))
	each(must(connection.Channel()))
	expectReason(next(closed, "connection.close"), code, text)
}

func expectReason(reason *amqp.Error, code int, text string) {
	equal(reason.Code, code, "reply code ("+reason.Reason+")")
	equal(reason.Reason, text, "reply text")
	equal(reason.Server, true, "sent by the broker")
}

func missingQueue(s *session) {
	missing := unique("missing")
	s.channelRefused(s.connect(), 404, inVhost("NOT_FOUND - no queue '%s'", missing),
		func(ch *amqp.Channel) { ch.QueueDeclarePassive(missing, true, false, false, false, nil) },
		func(ch *amqp.Channel) { ch.Get(missing, true) },
		func(ch *amqp.Channel) { ch.Consume(missing, "", true, false, false, false, nil) },
		func(ch *amqp.Channel) { ch.QueuePurge(missing, false) },
		func(ch *amqp.Channel) { ch.QueueBind(missing, "k", "amq.direct", false, nil) },
	)
}

func missingExchange(s *session) {
	connection := s.connect()
	queue := s.queue(must(connection.Channel()), nil)
	missing := unique("missing")
	s.channelRefused(connection, 404, inVhost("NOT_FOUND - no exchange '%s'", missing),
		func(ch *amqp.Channel) { ch.ExchangeDeclarePassive(missing, "direct", true, false, false, false, nil) },
		func(ch *amqp.Channel) { ch.QueueBind(queue, "k", missing, false, nil) },
		func(ch *amqp.Channel) { ch.ExchangeBind("amq.direct", "k", missing, false, nil) },
		func(ch *amqp.Channel) { publish(ch, missing, "k", "x") },
	)
}

func lockedQueue(s *session) {
	name := s.queueName()
	must(s.channel().QueueDeclare(name, false, false, true, false, nil))
	text := inVhost("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '%s'", name) +
		". It could be originally declared on another connection or the exclusive property value does not match that of the" +
		" original declaration."
	s.channelRefused(s.connect(), 405, text,
		func(ch *amqp.Channel) { ch.QueueDeclare(name, false, false, true, false, nil) },
		func(ch *amqp.Channel) { ch.Get(name, true) },
		func(ch *amqp.Channel) { ch.Consume(name, "", true, false, false, false, nil) },
		func(ch *amqp.Channel) { ch.QueueDelete(name, false, false, false) },
	)
}

func inequivalentQueue(s *session) {
	connection := s.connect()
	queue := s.queue(must(connection.Channel()), amqp.Table{"x-max-length": 5})
	about := "PRECONDITION_FAILED - inequivalent arg "
	s.channelRefused(connection, 406,
		about+inVhost("'durable' for queue '%s'", queue)+": received 'false' but current is 'true'",
		func(ch *amqp.Channel) {
			ch.QueueDeclare(queue, false, false, false, false, amqp.Table{"x-max-length": 5})
		})
	s.channelRefused(connection, 406,
		about+inVhost("'x-max-length' for queue '%s'", queue)+": received none but current is the value '5' of type 'signedint'",
		func(ch *amqp.Channel) { ch.QueueDeclare(queue, true, false, false, false, nil) })
	ch := must(connection.Channel())
	must(ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-max-length": int64(5)}))
}

func inequivalentExchange(s *session) {
	connection := s.connect()
	exchange := s.exchange(must(connection.Channel()), "direct")
	text := inVhost("PRECONDITION_FAILED - inequivalent arg 'type' for exchange '%s'", exchange)
	s.channelRefused(connection, 406, text+": received 'fanout' but current is 'direct'",
		func(ch *amqp.Channel) { ch.ExchangeDeclare(exchange, "fanout", true, false, false, false, nil) })
}

func unknownDeliveryTag(s *session) {
	s.channelRefused(s.connect(), 406, "PRECONDITION_FAILED - unknown delivery tag 42",
		func(ch *amqp.Channel) { try(ch.Ack(42, false)) },
		func(ch *amqp.Channel) { try(ch.Ack(42, true)) },
		func(ch *amqp.Channel) { try(ch.Nack(42, false, true)) },
		func(ch *amqp.Channel) { try(ch.Reject(42, true)) },
	)
}

func queueInUseOrNotEmpty(s *session) {
	connection := s.connect()
	ch := must(connection.Channel())
	queue := s.filled(ch, "x")
	text := inVhost("PRECONDITION_FAILED - queue '%s'", queue)
	s.channelRefused(connection, 406, text+" not empty",
		func(ch *amqp.Channel) { ch.QueueDelete(queue, false, true, false) })
	take(consume(ch, queue, "", false), 1)
	s.channelRefused(connection, 406, text+" in use",
		func(ch *amqp.Channel) { ch.QueueDelete(queue, true, false, false) })
}

func channelModes(s *session) {
	connection := s.connect()
	s.channelRefused(connection, 406, "PRECONDITION_FAILED - channel is not transactional",
		func(ch *amqp.Channel) { ch.TxCommit() }, func(ch *amqp.Channel) { ch.TxRollback() })
	s.channelRefused(connection, 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
		func(ch *amqp.Channel) { try(ch.Tx()); ch.Confirm(false) })
	s.channelRefused(connection, 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode",
		func(ch *amqp.Channel) { try(ch.Confirm(false)); ch.Tx() })
}

func unknownExchangeType(s *session) {
	name := s.exchangeName()
	s.channelRefused(s.connect(), 406, "PRECONDITION_FAILED - unknown exchange type 'x-nonsense'",
		func(ch *amqp.Channel) { ch.ExchangeDeclare(name, "x-nonsense", true, false, false, false, nil) })
}

func messageTooLarge(s *session) {
	s.channelRefused(s.connect(), 406,
		"PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216",
		func(ch *amqp.Channel) {
			message := amqp.Publishing{Body: make([]byte, 16*1024*1024+1)}
			// The broker may close the channel while the body is still being written.
			_ = ch.PublishWithContext(context.Background(), "", "any", false, false, message)
		})
}

func reservedNames(s *session) {
	connection := s.connect()
	s.channelRefused(connection, 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
		func(ch *amqp.Channel) { ch.QueueDeclare("amq.mine", false, false, true, false, nil) })
	s.channelRefused(connection, 403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
		func(ch *amqp.Channel) { ch.ExchangeDeclare("amq.mine", "direct", false, true, false, false, nil) })
	s.channelRefused(connection, 403, inVhost("ACCESS_REFUSED - deletion of system exchange 'amq.topic'")+" not allowed",
		func(ch *amqp.Channel) { ch.ExchangeDelete("amq.topic", false, false) })
}

func defaultExchange(s *session) {
	connection := s.connect()
	queue := s.queue(must(connection.Channel()), nil)
	s.channelRefused(connection, 403, "ACCESS_REFUSED - operation not permitted on the default exchange",
		func(ch *amqp.Channel) { ch.ExchangeDeclare("", "direct", true, false, false, false, nil) },
		func(ch *amqp.Channel) { ch.ExchangeDelete("", false, false) },
		func(ch *amqp.Channel) { ch.QueueBind(queue, "k", "", false, nil) },
	)
}

func internalExchange(s *session) {
	connection := s.connect()
	name := s.exchangeName()
	try(must(connection.Channel()).ExchangeDeclare(name, "direct", true, false, true, false, nil))
	s.channelRefused(connection, 403, inVhost("ACCESS_REFUSED - cannot publish to internal exchange '%s'", name),
		func(ch *amqp.Channel) { publish(ch, name, "k", "x") })
}

func exclusiveConsumer(s *session) {
	connection := s.connect()
	ch := must(connection.Channel())
	queue := s.queue(ch, nil)
	must(ch.Consume(queue, "", true, true, false, false, nil))
	s.channelRefused(connection, 403, inVhost("ACCESS_REFUSED - queue '%s'", queue)+" in exclusive use",
		func(ch *amqp.Channel) { ch.Consume(queue, "", true, false, false, false, nil) })
}

func dialRefused(address, vhost string, code int, text string) {
	_, err := amqp.DialConfig(address, amqp.Config{Locale: "en_US", Vhost: vhost})
	var reason *amqp.Error
	if !errors.As(err, &reason) {
		fail("not refused by the broker: %v", err)
	}
	equal(reason.Code, code, "reply code ("+reason.Reason+")")
	if reason.Server {
		equal(reason.Reason, text, "reply text")
	}
}

func wrongPassword(s *session) {
	address := must(url.Parse(brokerURI()))
	address.User = url.UserPassword(parsedURI().Username, "wrong")
	dialRefused(address.String(), parsedURI().Vhost, 403,
		"ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.")
}

func missingVhost(s *session) {
	dialRefused(brokerURI(), "no-such-vhost", 530, "NOT_ALLOWED - vhost no-such-vhost not found")
}

func reusedConsumerTag(s *session) {
	s.connectionRefused(530, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'", func(ch *amqp.Channel) {
		queue := s.queue(ch, nil)
		consume(ch, queue, "twice", true)
		go ch.Consume(queue, "twice", true, false, false, false, nil)
	})
}

func notImplemented(s *session) {
	s.connectionRefused(540, "NOT_IMPLEMENTED - immediate=true", func(ch *amqp.Channel) {
		try(ch.PublishWithContext(context.Background(), "", "any", false, true, amqp.Publishing{}))
	})
	s.connectionRefused(540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)", func(ch *amqp.Channel) { ch.Qos(0, 1, false) })
	s.connectionRefused(540, "NOT_IMPLEMENTED - requeue=false", func(ch *amqp.Channel) { ch.Recover(false) })
	s.connectionRefused(540, "NOT_IMPLEMENTED - active=false", func(ch *amqp.Channel) { ch.Flow(false) })
}
