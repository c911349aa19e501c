# frozen_string_literal: true

# Connecting, frames and headers.

extend Checks

each_version("connect") do |session, version|
  client = session.connection(version)
  equal(client.connected.command, "CONNECTED", "the answer")
  equal(client.stomp.protocol, version, "the version")
  equal(client.stomp.session.to_s.empty?, false, "whether there is no session")
  client.stomp.disconnect(receipt: "bye")
  equal(client.stomp.disconnect_receipt.headers["receipt-id"], "bye", "the receipt")
end

check("the-highest-version") do |session|
  client = session.connection(headers: { "accept-version": "1.0,1.2,1.1", host: "/" })
  equal(client.stomp.protocol, "1.2", "the version")
end

each_version("command-stomp", %w[1.1 1.2]) do |session, version|
  client = session.connection(version, stompconn: true)
  equal(client.connected.command, "CONNECTED", "the answer")
end

check("carriage-returns") do |session|
  client, queue = session.connection(usecrlf: true), session.queue
  client.subscribe(queue, **EXPIRES)
  client.publish(queue, "one\r\ntwo", colour: "red")
  message = client.message
  equal([message.body, message.headers["colour"]], ["one\r\ntwo", "red"], "body and header")
end

check("positional-arguments") do |session|
  stomp = session.kept(Stomp::Connection.new(BROKER.user, BROKER.password, BROKER.host, BROKER.port))
  equal([stomp.connection_frame.command, stomp.protocol], %w[CONNECTED 1.0], "the answer and the version")
  stomp.disconnect
end

each_version("refused-login") do |session, version|
  client = session.connection(version, hosts: [host_of_broker(passcode: "wrong")])
  told = client.connected
  equal([told.command, told.headers["message"]], ["ERROR", "Bad CONNECT"], "the answer")
  equal(told.body.strip, "Access refused for user '#{BROKER.user}'", "its text")
  client.ended
end

check("an-unknown-vhost") do |session|
  client = session.connection(headers: { host: "roadstead-none" })
  equal(client.connected.command, "ERROR", "the answer")
  client.ended
end

each_version("queue") do |session, version|
  client, queue = session.connection(version), session.queue
  client.subscribe(queue, **EXPIRES)
  client.publish(queue, "one", colour: "red", persistent: "true", priority: "7", "correlation-id": "c", type: "t")
  message = client.message
  equal([message.body, message.headers["destination"]], ["one", queue], "body and destination")
  told = %w[colour content-type persistent priority correlation-id type].map { |name| message.headers[name] }
  equal(told, ["red", "text/plain; charset=UTF-8", "true", "7", "c", "t"], "headers")
  client.unsubscribe(queue)
end

each_version("no-text") do |session, version|
  client, queue = session.connection(version), session.queue
  client.subscribe(queue, **EXPIRES)
  body = (0..255).map(&:chr).join.b * 300
  ["", body].each do |sent|
    client.publish(queue, sent, "content-type": "application/octet-stream")
    message = client.message
    equal(message.body.b == sent.b, true, "whether #{sent.bytesize} bytes are the same")
    equal(message.headers["content-type"], "application/octet-stream", "the type")
  end
end

each_version("without-a-length") do |session, version|
  client, queue = session.connection(version), session.queue
  client.subscribe(queue, **EXPIRES)
  client.publish(queue, "text: ü\0 and no more", suppress_content_length: true, suppress_content_type: true)
  message = client.message
  equal(message.body.dup.force_encoding("UTF-8"), "text: ü", "the body up to its end")
  equal(message.headers["content-type"], nil, "the type")
end

check("a-large-body") do |session|
  client, queue = session.connection, session.queue
  client.subscribe(queue, **EXPIRES)
  body = "0123456789" * 300_000
  client.publish(queue, body)
  equal(client.message(10).body == body, true, "whether it is the same")
end

# The gem cannot join a head and a body of which neither is ASCII.
each_version("unicode") do |session, version|
  client, queue = session.connection(version), session.queue
  client.subscribe(queue, **EXPIRES)
  client.publish(queue, "größer: 漢字 🚢")
  equal(client.message.body.dup.force_encoding("UTF-8"), "größer: 漢字 🚢", "the body")
  client.publish(queue, "plain", "größe": "漢字 🚢")
  equal(client.message.headers.map { |pair| pair.map { |text| text.dup.force_encoding("UTF-8") } }.to_h["größe"],
        "漢字 🚢", "the header")
end

check("unicode-names") do |session|
  client, queue = session.connection, "#{session.queue}.größe"
  client.subscribe(queue, **EXPIRES)
  client.publish(queue, "one")
  message = client.message
  client.publish(message.headers["destination"], "by the name that came")
  equal([message.body, client.message.body], ["one", "by the name that came"], "bodies")
end

each_version("escapes", %w[1.1 1.2]) do |session, version|
  client, queue = session.connection(version), session.queue
  client.subscribe(queue, **EXPIRES)
  client.publish(queue, "x", "a:b": "c:d\\ e\nf", empty: "")
  headers = client.message.headers
  equal([headers["a:b"], headers["empty"]], ["c:d\\ e\nf", ""], "headers")
end

check("escapes-of-carriage-returns") do |session|
  client, queue = session.connection, session.queue
  client.subscribe(queue, **EXPIRES)
  client.publish(queue, "x", line: "one\r\ntwo")
  equal(client.message.headers["line"], "one\r\ntwo", "the header")
end

check("no-escapes-in-v1.0") do |session|
  client, queue = session.connection("1.0"), session.queue
  client.subscribe(queue, **EXPIRES)
  client.publish(queue, "x", colon: "a:b", drive: "c:\\d")
  headers = client.message.headers
  equal([headers["colon"], headers["drive"]], ["a:b", "c:\\d"], "headers")
end

check("the-first-of-repeated-headers") do |session|
  client, queue = session.connection, session.queue
  client.subscribe(queue, **EXPIRES)
  client.publish(queue, "x", colour: %w[red green blue].map(&:dup))
  equal(Array(client.message.headers["colour"]).first, "red", "the first")
end

each_version("receipts") do |session, version|
  client, queue = session.connection(version), session.queue
  %w[a b:c d].each_with_index do |name, number|
    client.post(queue, number.to_s, receipt: name, persistent: "true")
    equal(client.frame("RECEIPT").headers["receipt-id"], name, "the receipt")
  end
  client.subscribe(queue, **EXPIRES)
  equal(client.bodies(3), %w[0 1 2], "bodies")
end

each_version("heart-beats", %w[1.1 1.2]) do |session, version|
  client, queue = session.connection(version, headers: { "heart-beat": "1000,1000" }), session.queue
  equal(client.connected.headers["heart-beat"], "1000,1000", "what the broker promises")
  equal([client.stomp.hbsend_interval, client.stomp.hbrecv_interval], [1000.0, 1000.0], "intervals")
  client.subscribe(queue, **EXPIRES)
  wait_until("two beats each way") { client.stomp.hbsend_count >= 2 && client.stomp.hbrecv_count >= 2 }
  equal([client.stomp.hb_sent, client.stomp.hb_received], [true, true], "whether they are in time")
  client.publish(queue, "still there")
  equal(client.message.body, "still there", "the message")
end

check("heart-beats-one-way") do |session|
  client = session.connection(headers: { "heart-beat": "0,1000" })
  wait_until("two beats of the broker") { client.stomp.hbrecv_count >= 2 }
  equal(client.stomp.hbsend_count, 0, "beats of the client")
  client.sync
end

def refusal(session, version = "1.2")
  client = session.connection(version)
  yield client
  told = client.error
  client.ended
  told
end

each_version("errors") do |session, version|
  told = refusal(session, version) { |client| client.post("/exchange/roadstead.none/k", "x", receipt: "r") }
  equal([told.headers["message"], told.headers["receipt-id"]], %w[not_found r], "the error")
  equal(told.body, "NOT_FOUND - no exchange 'roadstead.none' in vhost '/'", "its text")
end

check("an-unknown-destination") do |session|
  told = refusal(session) { |client| client.post("/pile/a", "x") }
  equal(told.headers["message"], "Unknown destination", "the error")
end

check("an-unknown-transaction") do |session|
  told = refusal(session) { |client| client.stomp.commit("none") }
  equal(told.headers["message"], "Bad transaction", "the error")
end

check("the-same-subscription-twice") do |session|
  queue = session.queue
  told = refusal(session) do |client|
    client.subscribe(queue, **EXPIRES)
    client.stomp.subscribe(queue, id: "1")
  end
  equal(told.headers["message"], "Duplicated subscription identifier", "the error")
end

each_version("acknowledged-twice") do |session, version|
  queue = session.queue
  told = refusal(session, version) do |client|
    client.subscribe(queue, ack: "client", **EXPIRES)
    client.publish(queue, "x")
    message = client.message
    2.times { client.ack(message) }
  end
  equal(told.headers["message"], "Subscription not found", "the error")
end
