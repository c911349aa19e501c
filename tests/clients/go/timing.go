package main

import (
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// What lasts for a time, and what comes at one.

var quorum = amqp.Table{"x-queue-type": "quorum"}

// with is a table of all that these tables have.
func with(tables ...amqp.Table) amqp.Table {
	all := amqp.Table{}
	for _, table := range tables {
		for key, value := range table {
			all[key] = value
		}
	}
	return all
}

// deadLettering are the arguments of a queue whose dead letters go to the queue `to`.
func deadLettering(to string) amqp.Table {
	return amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": to}
}

// notInRabbitMQ skips a check of what RabbitMQ 4.0 doesn't do, when it is the broker.
func notInRabbitMQ(connection *amqp.Connection, what string) {
	if isRabbitMQ(connection) {
		panic(skipped("RabbitMQ lacks " + what))
	}
}

func isRabbitMQ(connection *amqp.Connection) bool {
	platform, _ := connection.Properties["platform"].(string)
	return strings.HasPrefix(platform, "Erlang")
}

func expiring(ch *amqp.Channel, queue, body, milliseconds string) {
	publishMessage(ch, "", queue, false, amqp.Publishing{Body: []byte(body), Expiration: milliseconds})
}

func expiryDeadLetters(s *session) {
	ch := s.channel()
	for _, arguments := range []amqp.Table{{}, quorum} {
		grave := s.queue(ch, nil)
		deliveries := consume(ch, grave, "", true)
		queue := s.queue(ch, with(deadLettering(grave), arguments, amqp.Table{"x-message-ttl": 60_000}))
		start := time.Now()
		expiring(ch, queue, "old", "100")
		dead := next(deliveries, "dead letter")
		equal(time.Since(start) >= 100*time.Millisecond, true, "it lasted its time")
		equal([]string{string(dead.Body), dead.Expiration}, []string{"old", ""}, "body and expiration")
		expected := []amqp.Table{{
			"count": int64(1), "reason": "expired", "queue": queue, "exchange": "", "routing-keys": []any{queue},
			"original-expiration": "100",
		}}
		expectDeaths(dead, expected, expected[0])
		getEmpty(ch, queue)
	}
}

func shorterExpirationFirst(s *session) {
	connection := s.connect()
	notInRabbitMQ(connection, "expiry behind a message that stays")
	ch := must(connection.Channel())
	grave := s.queue(ch, nil)
	deliveries := consume(ch, grave, "", true)
	queue := s.queue(ch, deadLettering(grave))
	for _, milliseconds := range []string{"60000", "250", "50", "150", ""} {
		expiring(ch, queue, milliseconds, milliseconds)
	}
	equal(bodies(take(deliveries, 3)), []string{"50", "150", "250"}, "what has expired")
	equal(drain(ch, queue), []string{"60000", ""}, "what is left")
}

func unusedQueueExpires(s *session) {
	ch := s.channel()
	try(ch.Confirm(false))
	returns := ch.NotifyReturn(make(chan amqp.Return, 1000))
	queue := s.queue(ch, amqp.Table{"x-expires": 100})
	waitUntil(func() bool {
		confirmed(ch, "", queue, true, amqp.Publishing{})
		return len(returns) > 0
	}, "the queue has expired")
}

// expectDeaths expects exactly these headers of a dead letter, and times that are times.
func expectDeaths(dead amqp.Delivery, deaths []amqp.Table, first amqp.Table) {
	entries := []amqp.Table{}
	for _, each := range dead.Headers["x-death"].([]any) {
		death := each.(amqp.Table)
		_, dated := death["time"].(time.Time)
		equal(dated, true, "x-death has a time")
		delete(death, "time")
		entries = append(entries, death)
	}
	equal(entries, deaths, "x-death")
	expected := amqp.Table{"x-death": dead.Headers["x-death"]}
	for _, what := range []string{"reason", "queue", "exchange"} {
		expected["x-first-death-"+what] = first[what]
		expected["x-last-death-"+what] = deaths[0][what]
	}
	equal(dead.Headers, expected, "headers")
}

func deathsOverTwoRounds(s *session) {
	ch := s.channel()
	work, retry := s.queueName(), s.queueName()
	must(ch.QueueDeclare(work, true, false, false, false, deadLettering(retry)))
	must(ch.QueueDeclare(retry, true, false, false, false, with(deadLettering(work), amqp.Table{"x-message-ttl": 50})))
	deliveries := consume(ch, work, "", false)
	publish(ch, "", work, "again and again")
	for count := range int64(3) {
		delivery := next(deliveries, "round")
		if count > 0 {
			deaths := []amqp.Table{
				{"count": count, "reason": "expired", "queue": retry, "exchange": "", "routing-keys": []any{retry}},
				{"count": count, "reason": "rejected", "queue": work, "exchange": "", "routing-keys": []any{work}},
			}
			expectDeaths(delivery, deaths, deaths[1])
		}
		try(delivery.Reject(false))
	}
}

func atLeastOnce(s *session) {
	ch := s.channel()
	grave := s.queue(ch, nil)
	deliveries := consume(ch, grave, "", true)
	queue := s.queue(ch, with(deadLettering(grave), quorum, amqp.Table{
		"x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once",
	}))
	for _, body := range numbered(20) {
		expiring(ch, queue, body, "50")
	}
	equal(bodies(take(deliveries, 20)), numbered(20), "the dead letters")
}

// delayedExchange is direct after the delay.
func (s *session) delayedExchange(connection *amqp.Connection) string {
	notInRabbitMQ(connection, "its plugin for delayed messages")
	name := s.exchangeName()
	arguments := amqp.Table{"x-delayed-type": "direct"}
	try(must(connection.Channel()).ExchangeDeclare(name, "x-delayed-message", true, false, false, false, arguments))
	return name
}

func publishDelayed(ch *amqp.Channel, exchange, body string, milliseconds int32) {
	publishMessage(ch, exchange, "k", false, amqp.Publishing{
		Body: []byte(body), DeliveryMode: amqp.Persistent, Headers: amqp.Table{"x-delay": milliseconds},
	})
}

func delayedMessages(s *session) {
	connection := s.connect()
	exchange := s.delayedExchange(connection)
	ch := must(connection.Channel())
	queue := s.queue(ch, nil)
	try(ch.QueueBind(queue, "k", exchange, false, nil))
	deliveries := consume(ch, queue, "", true)
	start := time.Now()
	publishDelayed(ch, exchange, "slow", 250)
	publishDelayed(ch, exchange, "quick", 100)
	publishDelayed(ch, exchange, "now", 0)
	equal(bodies(take(deliveries, 3)), []string{"now", "quick", "slow"}, "bodies")
	equal(time.Since(start) >= 250*time.Millisecond, true, "the last came at its time")
}
