// Bodies, properties and headers.

#include <algorithm>

#include "session.hpp"

namespace {

using Bytes = std::vector<unsigned char>;

/// Sends a message through a queue of its own, by options of the client.
Message through(Session& session, cms::Message& message, const std::string& options = "") {
    Client client(cms::Session::AUTO_ACKNOWLEDGE, address(options));
    const Queue queue = client.queue(session.queue());
    client.send(*queue, message);
    return next(*client.consumer(*queue));
}

Bytes all_bytes(int count) {
    Bytes bytes(count);
    for (int at = 0; at < count; ++at) bytes[at] = static_cast<unsigned char>(at);
    return bytes;
}

const Check texts_of_every_kind{"texts", [](Session& session) {
    Client client;
    // The client itself loses what is behind a zero.
    for (const std::string& body : {std::string(), std::string("one"), std::string("größer: 漢字"), std::string(5000000, 'x')}) {
        const Message message = through(session, *client.text(body));
        same(text_of(*message) == body, true, "whether " + std::to_string(body.size()) + " bytes are the same");
    }
}};

const Check compressed{"compressed-texts", [](Session& session) {
    Client client(cms::Session::AUTO_ACKNOWLEDGE, address("?connection.useCompression=true"));
    const std::string body(100000, 'x');
    same(text_of(*through(session, *client.text(body), "?connection.useCompression=true")) == body, true, "the body");
}};

const Check bytes{"bytes", [](Session& session) {
    Client client;
    for (int count : {0, 1, 70000}) {
        const Bytes body = all_bytes(count);
        std::unique_ptr<cms::BytesMessage> message(client.session->createBytesMessage());
        message->writeBytes(body);
        const Message got = through(session, *message);
        const auto* read = dynamic_cast<const cms::BytesMessage*>(got.get());
        if (read == nullptr) throw std::runtime_error("it is no bytes message");
        same(read->getBodyLength(), count, "length");
        Bytes back(count);
        if (count > 0) read->readBytes(back);
        same(back == body, true, "whether the bytes are the same");
    }
}};

const Check values_in_bytes{"values-in-bytes", [](Session& session) {
    Client client;
    std::unique_ptr<cms::BytesMessage> message(client.session->createBytesMessage());
    message->writeInt(-7);
    message->writeLong(1LL << 40);
    message->writeDouble(1.5);
    message->writeUTF("ü");
    message->writeBoolean(true);
    const Message got = through(session, *message);
    const auto& read = dynamic_cast<const cms::BytesMessage&>(*got);
    same(read.readInt(), -7, "int");
    same(read.readLong(), 1LL << 40, "long");
    same(read.readDouble(), 1.5, "double");
    same(read.readUTF(), "ü", "text");
    same(read.readBoolean(), true, "boolean");
}};

const Check maps{"maps", [](Session& session) {
    Client client;
    std::unique_ptr<cms::MapMessage> message(client.session->createMapMessage());
    message->setBoolean("boolean", true);
    message->setByte("byte", 7);
    message->setBytes("bytes", all_bytes(300));
    message->setChar("char", 'c');
    message->setDouble("double", -2.5);
    message->setFloat("float", 0.5f);
    message->setInt("int", -100000);
    message->setLong("long", -(1LL << 40));
    message->setShort("short", -300);
    message->setString("text", "größe");
    const Message got = through(session, *message);
    const auto& read = dynamic_cast<const cms::MapMessage&>(*got);
    same(read.getMapNames().size(), 10u, "names");
    same(read.getBoolean("boolean"), true, "boolean");
    same(static_cast<int>(read.getByte("byte")), 7, "byte");
    same(read.getBytes("bytes") == all_bytes(300), true, "bytes");
    same(read.getChar("char"), 'c', "char");
    same(read.getDouble("double"), -2.5, "double");
    same(read.getFloat("float"), 0.5f, "float");
    same(read.getInt("int"), -100000, "int");
    same(read.getLong("long"), -(1LL << 40), "long");
    same(read.getShort("short"), -300, "short");
    same(read.getString("text"), "größe", "text");
}};

const Check streams{"streams", [](Session& session) {
    Client client;
    std::unique_ptr<cms::StreamMessage> message(client.session->createStreamMessage());
    message->writeInt(1);
    message->writeString("two");
    message->writeBytes(all_bytes(3));
    message->writeDouble(4.0);
    const Message got = through(session, *message);
    const auto& read = dynamic_cast<const cms::StreamMessage&>(*got);
    same(read.readInt(), 1, "the first");
    same(read.readString(), "two", "the second");
    unsigned char back[8] = {};
    same(read.readBytes(back, 8), 3, "the third");
    same(read.readDouble(), 4.0, "the fourth");
}};

void set_properties(cms::Message& message) {
    message.setBooleanProperty("boolean", true);
    message.setByteProperty("byte", 7);
    message.setDoubleProperty("double", -2.5);
    message.setFloatProperty("float", 0.5f);
    message.setIntProperty("int", -100000);
    message.setLongProperty("long", 1LL << 40);
    message.setShortProperty("short", -300);
    message.setStringProperty("text", "größe");
}

void check_properties(const cms::Message& message) {
    same(message.getBooleanProperty("boolean"), true, "boolean");
    same(static_cast<int>(message.getByteProperty("byte")), 7, "byte");
    same(message.getDoubleProperty("double"), -2.5, "double");
    same(message.getFloatProperty("float"), 0.5f, "float");
    same(message.getIntProperty("int"), -100000, "int");
    same(message.getLongProperty("long"), 1LL << 40, "long");
    same(message.getShortProperty("short"), -300, "short");
    same(message.getStringProperty("text"), "größe", "text");
}

const Check properties{"properties", [](Session& session) {
    for (const char* options : {"", "?wireFormat.tightEncodingEnabled=false"}) {
        Client client;
        std::unique_ptr<cms::Message> message(client.session->createMessage());
        set_properties(*message);
        check_properties(*through(session, *message, options));
    }
}};

const Check headers{"headers", [](Session& session) {
    Client client;
    const Queue queue = client.queue(session.queue()), answers = client.queue("roadstead.answers");
    const auto message = client.text("x");
    message->setCMSCorrelationID("c");
    message->setCMSType("t");
    message->setCMSReplyTo(answers.get());
    message->setStringProperty("JMSXGroupID", "g");
    Producer producer(client.session->createProducer(queue.get()));
    producer->send(message.get(), cms::DeliveryMode::PERSISTENT, 7, 60000);
    const Message got = next(*client.consumer(*queue));
    same(got->getCMSCorrelationID(), "c", "correlation");
    same(got->getCMSType(), "t", "type");
    same(dynamic_cast<const cms::Queue&>(*got->getCMSReplyTo()).getQueueName(), "roadstead.answers", "reply-to");
    same(dynamic_cast<const cms::Queue&>(*got->getCMSDestination()).getQueueName(), queue->getQueueName(), "destination");
    same(got->getCMSPriority(), 7, "priority");
    same(got->getCMSDeliveryMode(), static_cast<int>(cms::DeliveryMode::PERSISTENT), "delivery mode");
    same(got->getCMSExpiration() - got->getCMSTimestamp(), 60000, "time to live");
    same(got->getCMSMessageID(), message->getCMSMessageID(), "message id");
    same(got->getCMSRedelivered(), false, "redelivered");
    same(got->getStringProperty("JMSXGroupID"), "g", "group");
}};

}  // namespace
