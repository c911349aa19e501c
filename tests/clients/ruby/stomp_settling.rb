# frozen_string_literal: true

# Acknowledgements, transactions and what decides who gets a message.

extend Checks

# What a queue still has for a newcomer.
def left(session, version, queue, count)
  other = session.connection(version)
  other.subscribe(queue, **EXPIRES)
  messages = Array.new(count) { other.message }
  other.nothing_more
  messages
end

def subscribed_to_three(session, version, **headers)
  client, queue = session.connection(version), session.queue
  client.subscribe(queue, **headers, **EXPIRES)
  3.times { |number| client.publish(queue, number.to_s) }
  [client, queue, Array.new(3) { client.message }]
end

each_version("ack-auto") do |session, version|
  client, queue, = subscribed_to_three(session, version, ack: "auto")
  client.sync
  client.drop
  left(session, version, queue, 0)
end

each_version("ack-client") do |session, version|
  client, queue, messages = subscribed_to_three(session, version, ack: "client")
  client.ack(messages[1])
  client.sync
  client.drop
  rest = left(session, version, queue, 1)
  equal(rest.map { |message| [message.body, message.headers["redelivered"]] }, [%w[2 true]], "what is left")
end

each_version("ack-client-individual") do |session, version|
  client, queue, messages = subscribed_to_three(session, version, ack: "client-individual")
  client.ack(messages[1])
  client.sync
  client.drop
  equal(left(session, version, queue, 2).map(&:body), %w[0 2], "what is left")
end

each_version("nack", %w[1.1 1.2]) do |session, version|
  client, queue, messages = subscribed_to_three(session, version, ack: "client-individual")
  client.nack(messages[0])
  again = client.message
  equal([again.body, again.headers["redelivered"]], %w[0 true], "what comes again")
  [again, *messages.drop(1)].each { |message| client.ack(message) }
  client.sync
  client.drop
  left(session, version, queue, 0)
end

check("nack-to-dead-letters") do |session|
  client, queue, letters = session.connection, session.queue, session.queue
  client.subscribe(letters, id: "letters", **EXPIRES)
  key = letters.delete_prefix("/queue/")
  client.subscribe(queue, ack: "client", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": key, **EXPIRES)
  client.publish(queue, "dead")
  client.nack(client.message, requeue: "false")
  letter = client.message
  told = letter.headers.values_at("subscription", "x-first-death-reason")
  equal([letter.body, *told], %w[dead letters rejected], "the letter")
end

check("acknowledged-with-a-receipt") do |session|
  client, _, messages = subscribed_to_three(session, "1.2", ack: "client-individual")
  client.ack(messages[0], receipt: "ack")
  equal(client.frame("RECEIPT").headers["receipt-id"], "ack", "the receipt")
end

%w[prefetch-count activemq.prefetchSize].each do |header|
  check("window-by-#{header}") do |session|
    client, queue = session.connection, session.queue
    client.subscribe(queue, ack: "client", header => "2", **EXPIRES)
    3.times { |number| client.publish(queue, number.to_s) }
    messages = Array.new(2) { client.message }
    client.nothing_more
    client.ack(messages.last)
    equal(client.message.body, "2", "the next")
  end
end

each_version("transactions") do |session, version|
  client, queue = session.connection(version), session.queue
  client.subscribe(queue, **EXPIRES)
  transactions = [client.begin, client.begin]
  %w[one two].each do |part|
    transactions.each_with_index { |name, number| client.post(queue, "#{part} of #{number}", transaction: name) }
  end
  client.nothing_more
  client.abort(transactions[0])
  client.nothing_more
  client.commit(transactions[1])
  equal(client.bodies(2), ["one of 1", "two of 1"], "messages")
  client.nothing_more
end

each_version("transactions-with-acks") do |session, version|
  client, queue, messages = subscribed_to_three(session, version, ack: "client")
  transaction = client.begin
  client.ack(messages[2], transaction: transaction)
  client.abort(transaction)
  transaction = client.begin
  client.ack(messages[1], transaction: transaction)
  client.post(queue, "result", transaction: transaction)
  client.commit(transaction)
  client.drop
  equal(left(session, version, queue, 2).map(&:body).sort, %w[2 result], "what is left")
end

check("a-lost-connection-aborts") do |session|
  client, queue, messages = subscribed_to_three(session, "1.2", ack: "client")
  transaction = client.begin
  client.ack(messages[2], transaction: transaction)
  client.publish(queue, "never", transaction: transaction)
  client.drop
  equal(left(session, "1.2", queue, 3).map(&:body), %w[0 1 2], "what is left")
end

check("selectors-of-queues") do |session|
  red, blue, queue = session.connection, session.connection, session.queue
  red.subscribe(queue, selector: "colour = 'red' AND size LIKE 'X%'", **EXPIRES)
  blue.subscribe(queue, selector: "colour IN ('blue', 'green') OR colour IS NULL", **EXPIRES)
  [%w[red XL], %w[blue M], %w[red M], %w[green XL], %w[red XS]].each do |colour, size|
    red.publish(queue, "#{colour} #{size}", colour: colour, size: size)
  end
  red.publish(queue, "none")
  equal([red.bodies(2), blue.bodies(3)], [["red XL", "red XS"], ["blue M", "green XL", "none"]], "bodies")
  equal(left(session, "1.2", queue, 1).map(&:body), ["red M"], "what nobody wants")
end

check("a-bad-selector") do |session|
  told = refusal(session) { |client| client.stomp.subscribe(session.queue, id: "1", selector: "colour = = 1") }
  equal(told.headers["message"], "Invalid selector", "the error")
end

check("groups") do |session|
  queue = session.queue
  clients = Array.new(2) { session.connection.tap { |client| client.subscribe(queue, **EXPIRES) } }
  4.times { |number| %w[a b].each { |group| clients[0].publish(queue, "#{group}#{number}", JMSXGroupID: group) } }
  equal(clients.map { |client| client.bodies(4) }.sort, [%w[a0 a1 a2 a3], %w[b0 b1 b2 b3]], "each group")
end

check("an-exclusive-consumer") do |session|
  first, second, queue = session.connection, session.connection, session.queue
  first.subscribe(queue, "activemq.exclusive": "true", **EXPIRES)
  second.subscribe(queue, "activemq.exclusive": "true", **EXPIRES)
  4.times { |number| first.publish(queue, number.to_s) }
  equal(first.bodies(4), %w[0 1 2 3], "what the first gets")
  first.drop
  session.connection.publish(queue, "next")
  equal(second.message.body, "next", "what the second gets")
end

check("consumer-priorities") do |session|
  low, high, queue = session.connection, session.connection, session.queue
  low.subscribe(queue, "activemq.priority": "1", **EXPIRES)
  high.subscribe(queue, "activemq.priority": "9", **EXPIRES)
  4.times { |number| low.publish(queue, number.to_s) }
  equal(high.bodies(4), %w[0 1 2 3], "what the one of the higher priority gets")
end

check("priorities") do |session|
  client, queue = session.connection, session.queue
  client.subscribe(queue, "x-max-priority": "9", ack: "client", **EXPIRES)
  client.unsubscribe(queue)
  %w[1 9 5].each { |priority| client.publish(queue, priority, priority: priority) }
  client.subscribe(queue, **EXPIRES)
  equal(client.bodies(3), %w[9 5 1], "the order")
end

{ "expiration" => -> { "100" }, "expires" => -> { ((Time.now.to_f + 0.1) * 1000).to_i.to_s } }.each do |header, soon|
  check("time-to-live-by-#{header}") do |session|
    client, queue = session.connection, session.queue
    client.subscribe(queue, **EXPIRES)
    client.unsubscribe(queue)
    client.publish(queue, "late", header => soon.call)
    client.publish(queue, "stays")
    sleep 0.3
    client.subscribe(queue, **EXPIRES)
    equal(client.message.body, "stays", "the message")
    client.nothing_more
  end
end

check("scheduled") do |session|
  client, queue = session.connection, session.queue
  client.subscribe(queue, **EXPIRES)
  start = now
  client.publish(queue, "later", AMQ_SCHEDULED_DELAY: "500")
  client.nothing_more
  equal(client.message.body, "later", "the message")
  equal(now - start >= 0.5, true, "whether it waited")
end

check("browser") do |session|
  client, queue = session.connection, session.queue
  client.subscribe(queue, **EXPIRES)
  client.unsubscribe(queue)
  3.times { |number| client.publish(queue, number.to_s) }
  client.subscribe(queue, browser: "true")
  equal(client.bodies(3), %w[0 1 2], "what it sees")
  equal(client.message.headers["browser"], "end", "the end")
  equal(left(session, "1.2", queue, 3).map(&:body), %w[0 1 2], "what is still there")
end
