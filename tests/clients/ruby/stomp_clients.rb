# frozen_string_literal: true

# Stomp::Client, which reads in a thread of its own; failover, and a restart of the broker.

extend Checks

# Subscribes with a client, and returns the queue of what comes.
def listen(client, destination, headers = {})
  messages = Queue.new
  done = Queue.new
  client.subscribe(destination, headers) { |message| messages << message }
  # Frames are done in their order.
  client.publish("/topic/roadstead.nobody", "") { done << true }
  take(done)
  messages
end

def take(events, seconds = SECONDS)
  Timeout.timeout(seconds, RuntimeError, "nothing came within #{seconds} s") { events.pop }
end

each_version("client") do |session, version|
  client, queue = session.client(version), session.queue
  messages = listen(client, queue, EXPIRES)
  receipts = Queue.new
  client.publish(queue, "one", colour: "red") { |receipt| receipts << receipt.command }
  message = take(messages)
  equal([message.body, message.headers["colour"], take(receipts)], %w[one red RECEIPT], "message and receipt")
  client.unsubscribe(queue)
  client.close
  equal([client.closed?, client.running], [true, false], "whether it is closed, whether it runs")
end

check("client-by-url") do |session|
  url = "stomp://#{BROKER.user}:#{BROKER.password}@#{BROKER.host}:#{BROKER.port}"
  client, queue = session.kept(Stomp::Client.new(url)), session.queue
  messages = listen(client, queue, EXPIRES)
  client.publish(queue, "one")
  equal(take(messages).body, "one", "the body")
end

each_version("client-acks") do |session, version|
  client, queue, done = session.client(version), session.queue, Queue.new
  messages = listen(client, queue, { ack: "client" }.merge(EXPIRES))
  client.publish(queue, "one")
  client.ack(take(messages)) { |receipt| done << receipt }
  take(done)
  client.close
  left(session, version, queue, 0)
end

check("client-nacks") do |session|
  client, queue = session.client, session.queue
  messages = listen(client, queue, { ack: "client" }.merge(EXPIRES))
  client.publish(queue, "one")
  client.nack(take(messages))
  equal(take(messages).headers["redelivered"], "true", "whether it came before")
end

# The client gives what it had acknowledged to its listener again, and the broker must still take it.
each_version("client-replays-what-it-aborts") do |session, version|
  client, queue, done = session.client(version), session.queue, Queue.new
  messages = listen(client, queue, { ack: "client" }.merge(EXPIRES))
  client.publish(queue, "job")
  client.begin("tx1")
  client.ack(take(messages), transaction: "tx1")
  client.abort("tx1")
  client.begin("tx2")
  client.ack(take(messages), transaction: "tx2")
  client.publish(queue, "result", transaction: "tx2")
  client.commit("tx2", receipt: client.__send__(:register_receipt_listener, ->(receipt) { done << receipt }))
  take(done)
  client.close
  equal(left(session, version, queue, 1).map(&:body), ["result"], "what is left")
end

# It acknowledges and sends again, in a transaction, with all headers that the broker gave.
check("client-unreceives") do |session|
  client, queue, letters = session.client, session.queue, session.queue
  messages, dead = listen(client, queue, EXPIRES), listen(client, letters, EXPIRES)
  client.publish(queue, "poison", colour: "red")
  3.times do
    message = take(messages)
    client.unreceive(message, dead_letter_queue: letters, max_redeliveries: 2)
  end
  letter = take(dead)
  equal([letter.body, *letter.headers.values_at("colour", "original_destination", "retry_count")],
        ["poison", "red", queue, "3"], "the letter")
end

check("client-is-told-of-errors") do |session|
  client = session.client
  begin
    client.publish("/exchange/roadstead.none/k", "x")
    sleep SECONDS
    raise "no error"
  rescue Stomp::Error::BrokerException => error
    equal(error.message, "not_found", "the error")
  end
end

check("client-from-many-threads") do |session|
  client, queue = session.client, session.queue
  messages = listen(client, queue, EXPIRES)
  threads = Array.new(4) do |thread|
    Thread.new { 250.times { |number| client.publish(queue, "#{thread}.#{number}") } }
  end
  threads.each(&:join)
  got = Array.new(1000) { take(messages).body }
  4.times do |thread|
    numbers = got.filter_map { |body| body.split(".").last.to_i if body.start_with?("#{thread}.") }
    equal(numbers, (0...250).to_a, "what thread #{thread} sent")
  end
end

check("client-beats-while-it-is-idle") do |session|
  client, queue = session.client(headers: { "heart-beat": "1000,1000" }), session.queue
  messages = listen(client, queue, EXPIRES)
  sleep 3
  equal([client.open?, client.hbsend_count >= 2], [true, true], "whether it is open, whether it has beaten")
  client.publish(queue, "still there")
  equal(take(messages).body, "still there", "the body")
end

def dead_port
  server = TCPServer.new("127.0.0.1", 0)
  server.addr[1].tap { server.close }
end

check("failover-to-the-second-host") do |session|
  hosts = [host_of_broker(host: "127.0.0.1", port: dead_port), host_of_broker]
  client, queue = session.client(hosts: hosts, reliable: true), session.queue
  messages = listen(client, queue, EXPIRES)
  client.publish(queue, "one")
  equal(take(messages).body, "one", "the body")
end

check("failover-by-url") do |session|
  user = "#{BROKER.user}:#{BROKER.password}"
  hosts = ["#{user}@127.0.0.1:#{dead_port}", "#{user}@#{BROKER.host}:#{BROKER.port}"].map { |host| "stomp://#{host}" }
  url = "failover://(#{hosts.join(',')})?initialReconnectDelay=20&randomize=false"
  client, queue = session.kept(Stomp::Client.new(url)), session.queue
  messages = listen(client, queue, EXPIRES)
  client.publish(queue, "one")
  equal(take(messages).body, "one", "the body")
end

each_version("failover-when-cut-off") do |session, version|
  relay, queue, sender = session.relay, session.queue, session.connection(version)
  hosts = [host_of_broker(host: "127.0.0.1", port: relay.port)]
  client = session.client(version, hosts: hosts, reliable: true)
  messages = listen(client, queue, { ack: "client" }.merge(EXPIRES))
  sender.publish(queue, "before", EXPIRES)
  equal(take(messages).body, "before", "the first")
  relay.cut
  again = take(messages)
  equal([again.body, again.headers["redelivered"]], %w[before true], "what was not acknowledged")
  client.ack(again)
  sender.publish(queue, "after", EXPIRES)
  equal(take(messages).body, "after", "what comes by the new connection")
end

check("failover-gives-up") do |session|
  hosts = [host_of_broker(host: "127.0.0.1", port: dead_port)]
  client = session.connection(hosts: hosts, reliable: true, max_reconnect_attempts: 2)
  raise "connected: #{client.connected}"
rescue Stomp::Error::MaxReconnectAttempts
  nil
end

# What outlives the broker: messages, transactions, a durable subscription; and clients that reconnect by themselves.
check("restart", 60) do |session|
  queue, topic = session.queue, session.topic
  kept = { id: "kept", durable: "true", "auto-delete": "false" }
  client = session.connection
  client.subscribe(topic, ack: "client", **kept)
  reliable = session.client(reliable: true, max_reconnect_delay: 0.5)
  messages = listen(reliable, queue, { ack: "client" }.merge(EXPIRES))
  [queue, topic].each { |each| client.publish(each, "one", persistent: "true", **EXPIRES) }
  client.publish(queue, "transient", EXPIRES)
  committed, lost = client.begin, client.begin
  [committed, lost].each { |name| client.post(queue, name, persistent: "true", transaction: name, **EXPIRES) }
  client.commit(committed)
  3.times { take(messages) }
  restart_broker
  again = Array.new(2) { take(messages, 10) }
  equal(again.map(&:body), ["one", committed], "what the queue has kept")
  other = session.connection
  other.subscribe(topic, **kept)
  equal(other.message.body, "one", "what the subscription has kept")
  reliable.ack(again.last)
  other.publish(queue, "new", EXPIRES)
  equal(take(messages).body, "new", "what comes to the client that was there before")
  other.nothing_more
  other.unsubscribe(topic, **kept)
end
