// Connections of ActiveMQ-CPP for one check.

#pragma once

#include <cms/BytesMessage.h>
#include <cms/Connection.h>
#include <cms/MapMessage.h>
#include <cms/MessageConsumer.h>
#include <cms/MessageProducer.h>
#include <cms/QueueBrowser.h>
#include <cms/Session.h>
#include <cms/StreamMessage.h>
#include <cms/TextMessage.h>

#include <memory>
#include <string>
#include <vector>

#include "contract.hpp"

using Mode = cms::Session::AcknowledgeMode;
using Message = std::unique_ptr<cms::Message>;
using Consumer = std::unique_ptr<cms::MessageConsumer>;
using Producer = std::unique_ptr<cms::MessageProducer>;
using Queue = std::unique_ptr<cms::Queue>;
using Topic = std::unique_ptr<cms::Topic>;

static const int MILLISECONDS = 5000;
/// How long one waits for what should not come.
static const int SHORTLY = 300;

/// The broker's address with options of the client, as `?a=b&c=d`.
std::string address(const std::string& options = "");

/// A started connection and one session of it.
class Client {
public:
    explicit Client(Mode mode = cms::Session::AUTO_ACKNOWLEDGE, const std::string& uri = address(),
                    const std::string& id = "");
    ~Client();

    Queue queue(const std::string& name);
    Topic topic(const std::string& name);
    Consumer consumer(const cms::Destination& from, const std::string& selector = "");
    std::unique_ptr<cms::TextMessage> text(const std::string& body);

    void send(const cms::Destination& to, const std::string& body);
    void send(const cms::Destination& to, const std::vector<std::string>& bodies);
    void send(const cms::Destination& to, cms::Message& message);
    void close();

    std::unique_ptr<cms::Connection> connection;
    std::unique_ptr<cms::Session> session;
};

/// What one check shares.
class Session {
public:
    std::string queue() const { return unique("q"); }
    std::string topic() const { return unique("t"); }
};

/// The next message of a consumer.
Message next(cms::MessageConsumer& consumer, int milliseconds = MILLISECONDS);
std::string text_of(const cms::Message& message);
std::string next_text(cms::MessageConsumer& consumer, int milliseconds = MILLISECONDS);
std::vector<std::string> texts(cms::MessageConsumer& consumer, int count);
void nothing_more(cms::MessageConsumer& consumer);

/// What is left in a queue, which is empty then.
std::vector<std::string> left(const std::string& queue);

/// Waits for what the broker does not announce.
void wait_until(const std::string& what, const std::function<bool()>& holds);
