// ActiveMQ-CPP against the broker in OPENWIRE_URI.

#include <activemq/library/ActiveMQCPP.h>

#include "contract.hpp"

int main(int count, char** arguments) {
    activemq::library::ActiveMQCPP::initializeLibrary();
    run_all(std::vector<std::string>(arguments + 1, arguments + count));
}
