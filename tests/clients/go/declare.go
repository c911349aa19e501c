package main

import (
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

func declareDurableQueue(s *session) {
	ch := s.channel()
	name := s.queueName()
	equal(must(ch.QueueDeclare(name, true, false, false, false, nil)), amqp.Queue{Name: name}, "declare-ok")
	publish(ch, "", name, "one")
	waitUntil(func() bool { return ready(ch, name) == 1 }, "one message is ready")
	equal(must(ch.QueueDeclare(name, true, false, false, false, nil)).Messages, 1, "count at the second declare")
}

func declarePassiveCounts(s *session) {
	ch := s.channel()
	name := s.filled(ch, numbered(3)...)
	take(consume(ch, name, "", false), 3)
	equal(inspect(ch, name), amqp.Queue{Name: name, Messages: 0, Consumers: 1}, "passive declare-ok")
}

func declareServerNamedQueue(s *session) {
	ch := s.channel()
	first := must(ch.QueueDeclare("", false, false, true, false, nil)).Name
	second := must(ch.QueueDeclare("", false, false, true, false, nil)).Name
	equal(strings.HasPrefix(first, "amq.gen-"), true, "the prefix of "+first)
	equal(first == second, false, "two server-named queues share a name")
	publish(ch, "", first, "x")
	waitUntil(func() bool { return ready(ch, first) == 1 }, "the message is routed by the generated name")
}

func exclusiveQueueGoes(s *session) {
	owner := s.connect()
	name := s.queueName()
	must(must(owner.Channel()).QueueDeclare(name, false, false, true, false, nil))
	try(owner.Close())
	s.channelRefused(s.connect(), 404, inVhost("NOT_FOUND - no queue '%s'", name), func(ch *amqp.Channel) {
		ch.QueueDeclarePassive(name, false, false, true, false, nil)
	})
}

func autoDeleteQueueGoes(s *session) {
	connection := s.connect()
	ch := must(connection.Channel())
	name := must(ch.QueueDeclare(s.queueName(), false, true, true, false, nil)).Name
	consume(ch, name, "reader", true)
	try(ch.Cancel("reader", false))
	s.channelRefused(connection, 404, inVhost("NOT_FOUND - no queue '%s'", name), func(ch *amqp.Channel) {
		ch.QueueDeclarePassive(name, false, true, true, false, nil)
	})
}

func declareWithoutWaiting(s *session) {
	ch := s.channel()
	queue, exchange := s.queueName(), s.exchangeName()
	must(ch.QueueDeclare(queue, true, false, false, true, nil))
	try(ch.ExchangeDeclare(exchange, "fanout", true, false, false, true, nil))
	try(ch.QueueBind(queue, "", exchange, true, nil))
	publish(ch, exchange, "", "x")
	synchronise(ch)
	waitUntil(func() bool { return ready(ch, queue) == 1 }, "the message is routed")
	must(ch.QueuePurge(queue, true))
	equal(ready(ch, queue), 0, "messages after the purge")
}

func purgeAndDelete(s *session) {
	ch := s.channel()
	name := s.filled(ch, numbered(4)...)
	equal(must(ch.QueuePurge(name, false)), 4, "purged messages")
	publish(ch, "", name, "last")
	waitUntil(func() bool { return ready(ch, name) == 1 }, "one message is ready")
	equal(must(ch.QueueDelete(name, false, false, false)), 1, "messages deleted with the queue")
	equal(must(ch.QueueDelete(name, false, false, false)), 0, "deleting a missing queue")
}

type binding struct {
	key       string
	arguments amqp.Table
}

// routes binds one queue per binding, publishes keyed bodies, and returns what each queue got.
func routes(s *session, kind string, bindings []binding, published []amqp.Publishing, keys []string) [][]string {
	ch := s.channel()
	exchange := s.exchange(ch, kind)
	queues := []string{}
	for _, each := range bindings {
		queue := s.queue(ch, nil)
		try(ch.QueueBind(queue, each.key, exchange, false, each.arguments))
		queues = append(queues, queue)
	}
	try(ch.Confirm(false))
	for index, message := range published {
		equal(confirmed(ch, exchange, keys[index], false, message), true, "confirmed")
	}
	got := [][]string{}
	for _, queue := range queues {
		got = append(got, drain(ch, queue))
	}
	return got
}

// routesKeys publishes one message per key; its body is the key.
func routesKeys(s *session, kind string, patterns []string, keys ...string) [][]string {
	bindings, published := []binding{}, []amqp.Publishing{}
	for _, pattern := range patterns {
		bindings = append(bindings, binding{key: pattern})
	}
	for _, key := range keys {
		published = append(published, amqp.Publishing{Body: []byte(key)})
	}
	return routes(s, kind, bindings, published, keys)
}

func exchangeDirect(s *session) {
	equal(routesKeys(s, "direct", []string{"a", "b"}, "a", "b", "c"), [][]string{{"a"}, {"b"}}, "routed")
}

func exchangeFanout(s *session) {
	equal(routesKeys(s, "fanout", []string{"", "x"}, "a", "b"), [][]string{{"a", "b"}, {"a", "b"}}, "routed")
}

func exchangeTopic(s *session) {
	got := routesKeys(s, "topic", []string{"a.*", "a.#", "*.*.c", "#"}, "a", "a.b", "a.b.c", "x")
	equal(got, [][]string{{"a.b"}, {"a", "a.b", "a.b.c"}, {"a.b.c"}, {"a", "a.b", "a.b.c", "x"}}, "routed")
}

func exchangeHeaders(s *session) {
	bindings := []binding{
		{arguments: amqp.Table{"x-match": "all", "shape": "round", "size": int32(1)}},
		{arguments: amqp.Table{"x-match": "any", "shape": "round", "size": int32(1)}},
		{arguments: amqp.Table{"x-match": "any-with-x", "x-key": true}},
	}
	published := []amqp.Publishing{
		{Body: []byte("both"), Headers: amqp.Table{"shape": "round", "size": int64(1)}},
		{Body: []byte("shape"), Headers: amqp.Table{"shape": "round", "x-key": true}},
		{Body: []byte("neither"), Headers: amqp.Table{"size": int32(2)}},
	}
	got := routes(s, "headers", bindings, published, []string{"", "", ""})
	equal(got, [][]string{{"both"}, {"both", "shape"}, {"shape"}}, "routed")
}

func exchangeToExchange(s *session) {
	ch := s.channel()
	source, target := s.exchange(ch, "topic"), s.exchange(ch, "fanout")
	queue := s.queue(ch, nil)
	try(ch.QueueBind(queue, "", target, false, nil))
	try(ch.ExchangeBind(target, "in.#", source, false, nil))
	try(ch.Confirm(false))
	confirmed(ch, source, "in.one", false, amqp.Publishing{Body: []byte("through")})
	equal(drain(ch, queue), []string{"through"}, "over the binding")
	try(ch.ExchangeUnbind(target, "in.#", source, false, nil))
	confirmed(ch, source, "in.two", false, amqp.Publishing{Body: []byte("too late")})
	equal(drain(ch, queue), []string{}, "after the unbind")
}
