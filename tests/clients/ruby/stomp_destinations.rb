# frozen_string_literal: true

# Destinations of RabbitMQ and of ActiveMQ.

extend Checks

each_version("topic") do |session, version|
  topic = session.topic
  clients = Array.new(2) { session.connection(version).tap { |client| client.subscribe("#{topic}.*") } }
  %w[.a .a.b .b].each { |key| clients[0].publish(topic + key, key) }
  clients.each { |client| equal(client.bodies(2), %w[.a .b], "bodies") }
  clients[1].nothing_more
end

{ "#" => "rabbitmq", ">" => "activemq" }.each do |wildcard, broker|
  check("topics-of-any-depth-#{broker}") do |session|
    client, topic = session.connection, session.topic
    client.subscribe("#{topic}.#{wildcard}")
    %w[.a .a.b .c].each { |key| client.publish(topic + key, key) }
    message = client.message
    equal([message.body, message.headers["destination"]], [".a", "#{topic}.a"], "the first")
    equal(client.bodies(2), %w[.a.b .c], "the others")
  end
end

check("several-subscriptions-of-a-topic") do |session|
  client, topic = session.connection, session.topic
  client.subscribe("#{topic}.*", id: "one")
  client.subscribe("#{topic}.a", id: "two")
  client.publish("#{topic}.a", "x")
  got = Array.new(2) { client.message.headers["subscription"] }
  equal(got.sort, %w[one two], "subscriptions")
end

check("selectors-of-topics") do |session|
  client, topic = session.connection, session.topic
  client.subscribe(topic, selector: "colour <> 'green'")
  %w[red green blue].each { |colour| client.publish(topic, colour, colour: colour) }
  equal(client.bodies(2), %w[red blue], "bodies")
end

check("exchanges") do |session|
  client, key = session.connection, unique("k")
  client.subscribe("/exchange/amq.direct/#{key}", id: "direct")
  client.subscribe("/exchange/amq.topic/#{key}.*", id: "topic")
  client.publish("/exchange/amq.direct/#{key}", "one")
  client.publish("/exchange/amq.topic/#{key}.x", "two")
  client.publish("/exchange/amq.direct/#{key}.x", "nowhere")
  got = Array.new(2) { client.message }.map { |message| [message.body, *message.headers.values_at("subscription", "destination")] }
  equal(got, [["one", "direct", "/exchange/amq.direct/#{key}"], ["two", "topic", "/topic/#{key}.x"]], "messages")
end

check("a-fanout-exchange") do |session|
  clients = Array.new(2) { session.connection.tap { |client| client.subscribe("/exchange/amq.fanout") } }
  body = unique("body")
  clients[0].publish("/exchange/amq.fanout", body)
  clients.each { |client| equal(client.message.body, body, "the body") }
end

check("amq-queue") do |session|
  client, name = session.connection, unique("q")
  client.subscribe("/queue/#{name}", **EXPIRES)
  client.unsubscribe("/queue/#{name}")
  client.publish("/amq/queue/#{name}", "one")
  client.subscribe("/amq/queue/#{name}")
  equal(client.message.body, "one", "the body")
  told = refusal(session) { |other| other.stomp.subscribe("/amq/queue/#{name}.none", id: "1") }
  equal(told.headers["message"], "not_found", "the error of one that is not there")
end

check("a-queue-without-a-prefix") do |session|
  client, name = session.connection, unique("q")
  client.subscribe(name, **EXPIRES)
  client.publish("/queue/#{name}", "one")
  equal(client.message.headers["destination"], "/queue/#{name}", "the destination")
end

check("a-queue-with-slashes") do |session|
  client, queue = session.connection, "#{session.queue}/a/b"
  client.subscribe(queue, **EXPIRES)
  client.publish(queue, "one")
  equal(client.message.body, "one", "the body")
end

check("composite-destinations") do |session|
  client, queue, topic = session.connection, session.queue, session.topic
  client.subscribe(queue, id: "queue", **EXPIRES)
  client.subscribe(topic, id: "topic")
  client.publish("#{queue},#{topic}", "both")
  got = Array.new(2) { client.message.headers.values_at("subscription", "destination") }
  equal(got.sort, [["queue", queue], ["topic", topic]], "messages")
end

check("replies-of-rabbitmq") do |session|
  asks, answers, queue = session.connection, session.connection, session.queue
  answers.subscribe(queue, **EXPIRES)
  asks.post(queue, "question", "reply-to": "/temp-queue/answers", "correlation-id": "7", **EXPIRES)
  question = answers.message
  answers.post(question.headers["reply-to"], "answer", "correlation-id": question.headers["correlation-id"])
  answer = asks.message
  told = [answer.body, *answer.headers.values_at("subscription", "correlation-id")]
  equal(told, %w[answer /temp-queue/answers 7], "the answer")
end

%w[queue topic].each do |kind|
  check("replies-of-activemq-by-a-temporary-#{kind}") do |session|
    asks, answers, queue = session.connection, session.connection, session.queue
    answers.subscribe(queue, **EXPIRES)
    asks.subscribe("/temp-#{kind}/answers", id: "mine")
    asks.post(queue, "question", "reply-to": "/temp-#{kind}/answers", **EXPIRES)
    answers.post(answers.message.headers["reply-to"], "answer")
    answer = asks.message
    equal([answer.body, answer.headers["subscription"]], %w[answer mine], "the answer")
  end
end

check("temporary-queues-are-of-one-connection") do |session|
  first, second = session.connection, session.connection
  [first, second].each { |client| client.subscribe("/temp-queue/same", id: "mine") }
  first.publish("/temp-queue/same", "first")
  second.publish("/temp-queue/same", "second")
  equal([first.message.body, second.message.body], %w[first second], "bodies")
end

# How each broker has clients connect and subscribe. ActiveMQ forgets only what is closed, and in STOMP 1.2 takes the name
# for the client's.
DURABLE_NAME = "roadstead-#{SecureRandom.hex(6)}"
DURABLES = {
  "rabbitmq" => [{}, { durable: "true", "auto-delete": "false" }],
  "activemq" => [{ "client-id": DURABLE_NAME }, { "activemq.subscriptionName": DURABLE_NAME }],
}.freeze

DURABLES.each do |broker, (connecting, subscribing)|
  check("a-durable-subscription-of-#{broker}") do |session|
    topic, sender = session.topic, session.connection
    first = session.connection(headers: connecting)
    first.subscribe(topic, id: "kept", **subscribing)
    first.stomp.disconnect(receipt: "bye")
    sender.publish(topic, "while away", persistent: "true")
    second = session.connection(headers: connecting)
    second.subscribe(topic, id: "kept", **subscribing)
    equal(second.message.body, "while away", "the message")
    second.unsubscribe(topic, id: "kept") if broker == "activemq"
    second.unsubscribe(topic, id: "kept", **subscribing)
    sender.publish(topic, "forgotten", persistent: "true")
    second.subscribe(topic, id: "kept", **subscribing)
    second.nothing_more
    second.unsubscribe(topic, id: "kept") if broker == "activemq"
    second.unsubscribe(topic, id: "kept", **subscribing)
  end
end

check("a-durable-subscription-is-forgotten-by-another-connection") do |session|
  topic, named = session.topic, DURABLES["activemq"]
  first = session.connection(headers: named[0])
  first.subscribe(topic, id: "kept", **named[1])
  first.stomp.disconnect(receipt: "bye")
  second = session.connection(headers: named[0])
  second.unsubscribe(topic, id: "kept", **named[1])
  second.publish(topic, "forgotten", persistent: "true")
  second.subscribe(topic, id: "kept", **named[1])
  second.nothing_more
  second.unsubscribe(topic, id: "kept")
  second.unsubscribe(topic, id: "kept", **named[1])
end

check("a-stream") do |session|
  client, queue = session.connection, session.queue
  options = { ack: "client", "prefetch-count": "10", "x-queue-type": "stream", durable: "true", "x-max-age": "1h" }
  client.subscribe(queue, **options)
  client.unsubscribe(queue)
  3.times { |number| client.publish(queue, number.to_s) }
  client.subscribe(queue, id: "again", "x-stream-offset": "offset=1", **options)
  got = Array.new(2) { client.message }.map { |message| [message.body, message.headers["x-stream-offset"]] }
  equal(got, [%w[1 1], %w[2 2]], "bodies and offsets")
end
